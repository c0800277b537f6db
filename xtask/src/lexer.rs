//! Tells code, comments and literals apart, so that a brace in a string fools nobody.

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Literal,
}

/// The text twice: once with only its code, once with only its comments. The rest is blank; both are as
/// long as the text, line for line.
pub(crate) fn split(text: &str) -> (String, String) {
    let parts = classify(text.as_bytes());
    (keep(text, &parts, Part::Code), keep(text, &parts, Part::Comment))
}

pub(crate) fn is_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

fn classify(text: &[u8]) -> Vec<Part> {
    let mut parts = Vec::with_capacity(text.len());
    while parts.len() < text.len() {
        let at = parts.len();
        let (part, length) = token(text, at);
        parts.resize((at + length).min(text.len()), part);
    }
    parts
}

/// The kind and the length of what starts at `at`.
fn token(text: &[u8], at: usize) -> (Part, usize) {
    let rest = &text[at..];
    match rest {
        [b'/', b'/', ..] => {
            (Part::Comment, rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()))
        }
        [b'/', b'*', ..] => (Part::Comment, block_comment(rest)),
        [b'"', ..] => (Part::Literal, quoted(rest, b'"')),
        [b'\'', b'\\', ..] => (Part::Literal, quoted(rest, b'\'')),
        [b'\'', first, ..] => {
            let width = match first {
                0xF0.. => 4,
                0xE0.. => 3,
                0xC0.. => 2,
                _ => 1,
            };
            // Without a second quote it is a lifetime.
            if rest.get(1 + width) == Some(&b'\'') { (Part::Literal, width + 2) } else { (Part::Code, 1) }
        }
        [b'r', ..] if at == 0 || !is_name(text[at - 1]) || is_raw_prefix(text, at) => {
            raw_string(rest).map_or((Part::Code, 1), |length| (Part::Literal, length))
        }
        _ => (Part::Code, 1),
    }
}

/// `br"` and `cr"`: the letter before the `r` belongs to the literal, not to a name.
fn is_raw_prefix(text: &[u8], at: usize) -> bool {
    matches!(text[at - 1], b'b' | b'c') && (at == 1 || !is_name(text[at - 2]))
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    let open = 1 + hashes;
    if rest.get(open) != Some(&b'"') {
        return None; // a name, perhaps a raw one: `r#type`
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| open + 1 + end + close.len()))
}

fn keep(text: &str, parts: &[Part], wanted: Part) -> String {
    let kept = text.bytes().zip(parts).map(|(byte, &part)| match byte {
        b'\n' => byte,
        _ if part == wanted => byte,
        _ => b' ',
    });
    String::from_utf8_lossy(&kept.collect::<Vec<u8>>()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_not_code() {
        let text = r##"let a = "{ // \" }"; // c { /* d
let b = r#"}" fn x() {"#; let c = '{'; let d: &'static str = b"\\"; /* e /* f */ } */ let g = '\'';
let h = br"{\"; let r#type = '}'; let i = 'é';"##;
        let (code, comments) = split(text);
        assert!(!code.contains(['{', '}']), "{code}");
        for word in ["let a", "let b", "&'static str", "let g", "let h", "r#type", "let i"] {
            assert!(code.contains(word), "{word}: {code}");
        }
        assert!(comments.contains("c { /* d"));
        assert!(comments.contains("e /* f */ }"));
        assert_eq!(code.lines().count(), 3);
    }
}
