//! The order in which tensors are stored: as a model uses them, as far as names tell.
//!
//! Readers prefetch in stored order, and a pack that arrives front to back can start with what it has. Many files
//! are sorted by name instead, where layer 10 comes before layer 2 and the embedding may come last.

use std::collections::HashMap;

/// Positions of `names` in the order of use: embeddings, then numbered layers in the order of their numbers, then what
/// has no number. Names that this does not tell apart keep their order.
pub(crate) fn execution_order(names: &[&str]) -> Vec<usize> {
    let mut groups: HashMap<&str, usize> = HashMap::new();
    let keys: Vec<_> = names
        .iter()
        .map(|name| match first_number(name) {
            // Layers of an encoder stay apart from those of a decoder.
            Some((prefix, number)) => {
                let next = groups.len();
                (1, *groups.entry(prefix).or_insert(next), number)
            }
            None if name.contains("emb") => (0, 0, 0),
            None => (2, 0, 0),
        })
        .collect();
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|&i| keys[i]);
    order
}

/// The first number of a name and the text before it.
fn first_number(name: &str) -> Option<(&str, u64)> {
    let start = name.find(|c: char| c.is_ascii_digit())?;
    let digits = &name[start..];
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Some((&name[..start], digits[..end].parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered<'a>(names: &[&'a str]) -> Vec<&'a str> {
        execution_order(names).into_iter().map(|i| names[i]).collect()
    }

    #[test]
    fn layers_follow_their_numbers_between_embeddings_and_head() {
        let sorted = [
            "lm_head",
            "m.embed.w",
            "m.layers.0.a",
            "m.layers.0.b",
            "m.layers.10.a",
            "m.layers.2.a",
            "m.norm",
        ];
        let wanted = [
            "m.embed.w",
            "m.layers.0.a",
            "m.layers.0.b",
            "m.layers.2.a",
            "m.layers.10.a",
            "lm_head",
            "m.norm",
        ];
        assert_eq!(ordered(&sorted), wanted);
    }

    #[test]
    fn encoder_and_decoder_stay_apart() {
        let names = ["encoder.1.w", "encoder.0.w", "decoder.1.w", "decoder.0.w"];
        assert_eq!(ordered(&names), ["encoder.0.w", "encoder.1.w", "decoder.0.w", "decoder.1.w"]);
    }

    #[test]
    fn what_is_in_order_stays() {
        let names = ["token_embd.w", "blk.0.q", "blk.0.k", "blk.1.q", "output_norm"];
        assert_eq!(ordered(&names), names);
    }
}
