//! What receivers and callers wrote, made safe for a terminal: their text may hold escape sequences that set the
//! title, write the clipboard or turn the direction of the line.

use std::borrow::Cow;
use std::fmt::Write as _;

use tsp_core::text::is_printable;

/// Lines of text; all that cannot be seen is spelled out, an escape as `\\u{1b}`.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let shows = |c: char| c == '\n' || is_printable(c);
    if text.chars().all(shows) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if shows(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    Cow::Owned(shown)
}

/// The same on one line.
pub(crate) fn visible_line(text: &str) -> Cow<'_, str> {
    if !text.contains(['\n', '\r', '\t']) {
        return visible(text);
    }
    Cow::Owned(visible(&text.replace(['\n', '\r', '\t'], " ")).into_owned())
}

/// A JSON document that means the same: what cannot be seen stands in strings alone, and is escaped there.
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    let shows = |c: char| c == '\n' || is_printable(c);
    if json.chars().all(shows) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        match c {
            c if shows(c) => shown.push(c),
            // Between tokens, where it is a blank like any other.
            '\t' | '\r' => shown.push(' '),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_show_and_do_nothing() {
        assert_eq!(visible("a\u{1b}]52;c;eA==\u{7}\nb"), "a\\u{1b}]52;c;eA==\\u{7}\nb");
        assert_eq!(visible("\u{202e}x\u{9b}2J\u{7f}\r"), "\\u{202e}x\\u{9b}2J\\u{7f}\\u{d}");
        assert!(matches!(visible("订单 ü\nb"), Cow::Borrowed(_)));
        assert_eq!(visible_line("a\r\nb\u{1b}"), "a  b\\u{1b}");
    }

    proptest! {
        #[test]
        fn a_document_means_the_same(text in any::<String>(), blank in "[ \t\r\n]{0,3}") {
            let json = format!("{{{blank}\"a\":{blank}{}{blank}}}", serde_json::to_string(&text).unwrap());
            let shown = visible_json(&json);
            prop_assert!(shown.chars().all(|c| c == '\n' || is_printable(c)));
            let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
            prop_assert_eq!(&read["a"], &text);
        }
    }
}
