//! Packed weights in burn.
