//! Whether bytes are one well-formed item of CBOR (RFC 8949, appendix C), found without allocating for what they
//! hold: parsing comes after, and takes memory in proportion to the number of items, a hundred bytes for some.

use crate::{Error, Result};

/// An item that has begun and waits for items within it.
#[derive(Clone, Copy)]
enum Open {
    /// This many more.
    Count(u64),
    /// An array up to its break code.
    Array,
    /// A map up to its break code, which may not part a key from its value.
    Map { whole: bool },
    /// A string up to its break code, of strings of this major type and of definite length.
    String(u8),
}

/// Longest text that the parser has a buffer for.
const BUFFER: u64 = 4096;

/// Refuses anything but one well-formed item of at most `limit` data items, nested at most `depth` deep. Says whether
/// it is plain: without byte strings, strings in parts, and text of more than [`BUFFER`] bytes.
///
/// # Errors
/// Limit for more items, Corruption for all else, with the offset of the item that is wrong.
pub(crate) fn check(bytes: &[u8], limit: u64, depth: usize) -> Result<bool> {
    let mut rest = bytes;
    let mut items = 0;
    let mut plain = true;
    let mut open = vec![Open::Count(1)];
    loop {
        while matches!(open.last(), Some(Open::Count(0))) {
            open.pop();
        }
        let at = bytes.len() - rest.len();
        let wrong = |what: &str| Error::corruption(format!("directory: {what} at byte {at}"));
        let Some(within) = open.last_mut() else {
            return if rest.is_empty() {
                Ok(plain)
            } else {
                Err(Error::corruption(format!("directory: {} bytes after its end", rest.len())))
            };
        };
        let Some((&initial, after)) = rest.split_first() else { return Err(wrong("it ends early")) };
        rest = after;
        let (major, info) = (initial >> 5, initial & 31);
        if initial == 0xff {
            match within {
                Open::Array | Open::Map { whole: true } | Open::String(_) => open.pop(),
                Open::Count(_) | Open::Map { whole: false } => return Err(wrong("a break out of place")),
            };
            continue;
        }
        items += 1;
        if items > limit {
            return Err(Error::limit(format!("directory of more than {limit} data items, the limit")));
        }
        match within {
            Open::Count(left) => *left -= 1,
            Open::Map { whole } => *whole = !*whole,
            Open::String(of) if *of != major || info == 31 => {
                return Err(wrong("a string has a part of another kind, or without a length,"));
            }
            Open::Array | Open::String(_) => {}
        }
        // Section 3: the argument itself, or how many bytes of it follow.
        let argument = match info {
            0..24 => Some(u64::from(info)),
            24..=27 => {
                let split = rest.split_at_checked(1 << (info - 24));
                let (argument, after) = split.ok_or_else(|| wrong("it ends early"))?;
                rest = after;
                Some(argument.iter().fold(0, |v, &b| v << 8 | u64::from(b)))
            }
            31 => None,
            _ => return Err(wrong("a reserved form")),
        };
        plain &= major != 2 && (major != 3 || argument.is_some_and(|n| n <= BUFFER));
        match (major, argument) {
            (2 | 3, Some(n)) => {
                let after = usize::try_from(n).ok().and_then(|n| rest.get(n..));
                rest = after.ok_or_else(|| wrong("a string is longer than what is left"))?;
            }
            (2 | 3, None) => open.push(Open::String(major)),
            (4, Some(n)) => open.push(Open::Count(n)),
            (4, None) => open.push(Open::Array),
            (5, Some(n)) => {
                open.push(Open::Count(n.checked_mul(2).ok_or_else(|| wrong("a map is too long"))?));
            }
            (5, None) => open.push(Open::Map { whole: true }),
            (6, Some(_)) => open.push(Open::Count(1)),
            // Simple values below 32 have a form of one byte, and must take it.
            (7, Some(n)) if info == 24 && n < 32 => return Err(wrong("a simple value in two bytes")),
            (_, Some(_)) => {}
            (_, None) => return Err(wrong("an item without a length that needs one")),
        }
        if open.len() > depth {
            return Err(wrong("nested too deep"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::ErrorKind;

    fn kind(bytes: &[u8]) -> Option<ErrorKind> {
        check(bytes, 100, 8).err().map(|e| e.kind())
    }

    #[test]
    fn every_form_of_the_standard_is_well_formed() {
        let good: [&[u8]; 14] = [
            b"\x00",
            b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x7b\0\0\0\0\0\0\0\x01a",
            b"\x7f\x61a\x60\xff",
            b"\x5f\x41\xff\xff",
            b"\x80",
            b"\x9f\x01\x9f\xff\x82\x01\x02\xff",
            b"\xbf\x61a\xf6\xff",
            b"\xa1\x61a\xa0",
            b"\xc2\x41\x01",
            b"\xf8\x20",
            b"\xf8\xff",
            b"\xf9\x7e\0",
            b"\x98\x01\xf5",
        ];
        for bytes in good {
            assert_eq!(kind(bytes), None, "{bytes:02x?}");
            for cut in 0..bytes.len() {
                assert_eq!(kind(&bytes[..cut]), Some(ErrorKind::Corruption), "{bytes:02x?} to {cut}");
            }
            assert_eq!(kind(&[bytes, b"\0"].concat()), Some(ErrorKind::Corruption), "{bytes:02x?} and more");
        }
    }

    #[test]
    fn what_the_standard_calls_ill_formed_is_refused() {
        let wrong: [&[u8]; 14] = [
            b"\x1c",                                         // reserved
            b"\x1f",                                         // an integer of indefinite length
            b"\xdf\x00",                                     // a tag of indefinite length
            b"\xff",                                         // a break alone
            b"\x81\xff",                                     // a break in an array of definite length
            b"\xbf\x61a\xff",                                // a key without a value
            b"\xf8\x14",                                     // false in two bytes
            b"\xf8\x1f",                                     // below 32 in two bytes
            b"\x7f\x41a\xff",                                // bytes in text
            b"\x7f\x7f\x61a\xff\xff",                        // indefinite text in indefinite text
            b"\x7f\x00\xff",                                 // an integer in text
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",         // a map of 2^65 items
            b"\x81\x81\x81\x81\x81\x81\x81\x81\x00",         // deeper than 8
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", // a string past the end
        ];
        for bytes in wrong {
            assert_eq!(kind(bytes), Some(ErrorKind::Corruption), "{bytes:02x?}");
        }
    }

    #[test]
    fn what_is_not_plain_is_told() {
        let text = |n: u16| [&[0x79][..], &n.to_be_bytes(), &vec![b'a'; n.into()]].concat();
        for plain in [&b"\xa1\x61a\x9f\x01\xff"[..], &text(4096)] {
            assert!(check(plain, 100, 8).unwrap(), "{plain:02x?}");
        }
        for long in [&b"\x81\x40"[..], b"\x81\x7f\xff", b"\x5f\xff", &text(4097)] {
            assert!(!check(long, 100, 8).unwrap(), "{long:02x?}");
        }
    }

    #[test]
    fn items_are_counted_and_not_bytes() {
        let list = |n: u8| [&[0x98, n][..], &vec![0x41; 2 * usize::from(n)]].concat();
        assert_eq!((kind(&list(99)), kind(&list(100))), (None, Some(ErrorKind::Limit)));
        // Break codes are no items, the parts of a string are.
        let parts = |n: usize| [&[0x7f][..], &vec![0x60; n], &[0xff]].concat();
        assert_eq!((kind(&parts(99)), kind(&parts(100))), (None, Some(ErrorKind::Limit)));
    }
}
