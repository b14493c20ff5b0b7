"""An independent decoder of Benben packs, written from format-spec/ alone. README.md says how to run it."""
