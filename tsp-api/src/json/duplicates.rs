//! Members that stand twice: what they say depends on who reads them.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::tokens::{MalformedJson, Token, Tokens};

/// So much of a place is told.
const PLACE_CHARS_MAX: usize = 200;

/// The places of members that stand twice in their object, such as `payload.lines[2].id`: the first `most`.
///
/// # Errors
/// [`MalformedJson`].
pub fn duplicates(text: &str, most: usize) -> Result<Vec<String>, MalformedJson> {
    duplicates_below("", text, most)
}

/// [`duplicates`] of a value that stands at `place` in a larger document.
///
/// # Errors
/// [`MalformedJson`].
pub fn duplicates_below(place: &str, text: &str, most: usize) -> Result<Vec<String>, MalformedJson> {
    let mut walk = DuplicateScan { place, names: Vec::new(), open: Vec::new() };
    let mut found = Vec::new();
    let mut tokens = Tokens::new(text);
    while let Some(token) = tokens.advance()? {
        match token {
            Token::BeginArray => walk.begin(OpenValue::Array { next: 0 }),
            Token::BeginObject => walk.begin(OpenValue::Object { names: walk.names.len() }),
            Token::EndArray => drop(walk.open.pop()),
            Token::EndObject => walk.end_object(most, &mut found),
            Token::Name(name) => walk.names.push(name.bytes()),
            Token::Text(_) | Token::Number(_) | Token::Word(_) => walk.count(),
        }
        if found.len() >= most {
            break;
        }
    }
    Ok(found)
}

struct DuplicateScan<'a> {
    place: &'a str,
    /// Of the members so far of the objects that are open, outermost first.
    names: Vec<Cow<'a, [u8]>>,
    open: Vec<OpenValue>,
}

enum OpenValue {
    Array {
        /// The number of the element that comes next.
        next: usize,
    },
    Object {
        /// Where its names begin.
        names: usize,
    },
}

impl DuplicateScan<'_> {
    fn begin(&mut self, open: OpenValue) {
        self.count();
        self.open.push(open);
    }

    /// A value began.
    fn count(&mut self) {
        if let Some(OpenValue::Array { next }) = self.open.last_mut() {
            *next += 1;
        }
    }

    fn end_object(&mut self, most: usize, found: &mut Vec<String>) {
        let Some(OpenValue::Object { names }) = self.open.pop() else { return };
        self.names[names..].sort_unstable();
        let mut last = None;
        for at in names + 1..self.names.len() {
            let is_double = self.names[at] == self.names[at - 1];
            if is_double && last != Some(&self.names[at]) && found.len() < most {
                found.push(self.place_of(names, &self.names[at]));
                last = Some(&self.names[at]);
            }
        }
        self.names.truncate(names);
    }

    /// Of a member of the object whose names begin at `names`, which is not among those that are open.
    fn place_of(&self, names: usize, name: &[u8]) -> String {
        let mut place = self.place.to_owned();
        for (level, open) in self.open.iter().enumerate() {
            if place.len() > PLACE_CHARS_MAX {
                break;
            }
            match open {
                OpenValue::Array { next } => {
                    let _ = write!(place, "[{}]", next.saturating_sub(1));
                }
                OpenValue::Object { .. } => {
                    // The last of its names so far is the one that leads on.
                    let inner = self.open[level + 1..].iter().find_map(|open| match open {
                        OpenValue::Object { names } => Some(*names),
                        OpenValue::Array { .. } => None,
                    });
                    let own = inner.unwrap_or(names).checked_sub(1).and_then(|at| self.names.get(at));
                    push_name(&mut place, own.map_or(&[][..], |name| name));
                }
            }
        }
        push_name(&mut place, name);
        match place.char_indices().nth(PLACE_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &place[..end]),
            None => place,
        }
    }
}

fn push_name(place: &mut String, name: &[u8]) {
    if !place.is_empty() {
        place.push('.');
    }
    place.push_str(&String::from_utf8_lossy(name));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{json, rewritten};
    use super::*;

    fn found(text: &str) -> Vec<String> {
        duplicates(text, 10).unwrap()
    }

    #[test]
    fn each_is_named_by_its_place_once() {
        assert_eq!(found("{\"a\":1,\"b\":2}"), [""; 0]);
        assert_eq!(found("{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}"), [""; 0]);
        assert_eq!(found("{\"a\":1,\"b\":1,\"a\":1,\"a\":2}"), ["a"]);
        assert_eq!(found("{\"a\":1,\"\\u0061\":2}"), ["a"]);
        assert_eq!(
            found("{\"p\":{\"x\":[0,{\"l\":[[],{\"id\":1,\"id\":2}]}]},\"q\":0,\"q\":{}}"),
            ["p.x[1].l[1].id", "q"]
        );
        assert_eq!(found("[{\"\":1,\"\":2}]"), ["[0]."]);
        assert_eq!(duplicates_below("payload", "[{\"a\":1,\"a\":2}]", 10).unwrap(), ["payload[0].a"]);
        assert_eq!(duplicates("{\"a\":0,\"a\":0,\"b\":0,\"b\":0}", 1).unwrap(), ["a"]);
    }

    #[test]
    fn a_place_is_no_longer_than_a_person_reads() {
        let deep = "{\"name\":".repeat(5_000) + "{\"a\":1,\"a\":2}" + &"}".repeat(5_000);
        let place = found(&deep).remove(0);
        assert_eq!(place.chars().count(), PLACE_CHARS_MAX + 1);
        assert!(place.starts_with("name.name.") && place.ends_with('…'), "{place}");
    }

    proptest! {
        #[test]
        fn documents_have_none_until_one_is_put_in(document in json(), seed in any::<u64>()) {
            let text = rewritten(&document, seed);
            prop_assert_eq!(found(&text), [""; 0]);
            let double = format!("{{\"n\":[{text},{{\"k\":{text},\"o\":0,\"k\":{text}}}]}}");
            prop_assert_eq!(found(&double), ["n[1].k"]);
        }
    }
}
