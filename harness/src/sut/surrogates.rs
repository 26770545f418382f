//! JSON texts with half a character in them.

use std::borrow::Cow;

/// The text with every escaped surrogate that stands alone replaced by U+FFFD. JSON's grammar has them, and who echoes a
/// malformed name may send one; but they are no Unicode, so that the parser refuses them.
pub(super) fn replace_lone(text: &str) -> Cow<'_, str> {
    if !text.contains("\\ud") && !text.contains("\\uD") {
        return Cow::Borrowed(text);
    }
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('\\') {
        let escape = &rest[start..];
        let length = match (surrogate(escape), escape.get(6..).and_then(surrogate)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
            (Some(_), _) => {
                whole.push_str(&rest[..start]);
                whole.push_str("\\ufffd");
                rest = &escape[6..];
                continue;
            }
            // What is escaped, be it a backslash, begins no escape of its own.
            (None, _) => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        let (kept, after) = rest.split_at(start + length);
        whole.push_str(kept);
        rest = after;
    }
    whole.push_str(rest);
    Cow::Owned(whole)
}

/// The surrogate that a text begins with, escaped.
fn surrogate(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let unit = u16::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    unit.filter(|unit| (0xD800..0xE000).contains(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_surrogates_are_replaced_and_nothing_else() {
        for (text, whole) in [
            (r#""a \ud83d\ude00 b""#, r#""a \ud83d\ude00 b""#),
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\udc00\uD800\u0041""#, r#""\ufffd\ufffd\u0041""#),
            (r#""\ud800\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            (r#""\\ud800 \"\\\ud800""#, r#""\\ud800 \"\\\ufffd""#),
            (r#""é\é\ud8""#, r#""é\é\ud8""#),
            (r"\ud800\", r"\ufffd\"),
        ] {
            assert_eq!(replace_lone(text), whole);
        }
    }
}
