//! Readers and writers of foreign model files.
