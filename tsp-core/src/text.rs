//! Which characters a person can see.

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;

/// Whether `c` shows on a screen, or is a blank in a line. Not so are control characters, format characters (they
/// turn the direction of what follows, or are seen by nobody), separators of lines, and what Unicode has not
/// assigned: two texts that look alike would differ, or a text would look like another.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    !matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::Unassigned
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_told_from_what_is_not() {
        for c in "a ~ü订é\u{301}\u{3000}\u{a0}🚀\u{e000}".chars() {
            assert!(is_printable(c), "{}", c.escape_unicode());
        }
        let hidden = "\0\t\n\x1b\x7f\u{80}\u{85}\u{9b}\u{ad}\u{200b}\u{200d}\u{200e}\u{2028}\u{2029}\u{202e}\u{2066}\
                      \u{feff}\u{fff9}\u{e0001}\u{e0041}\u{378}\u{ffff}\u{10ffff}";
        for c in hidden.chars() {
            assert!(!is_printable(c), "{}", c.escape_unicode());
        }
    }
}
