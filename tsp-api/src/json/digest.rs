//! One number for all texts that say the same.

use sha2::{Digest, Sha256};

use super::tokens::{MalformedJson, Token, Tokens};

/// SHA-256 of what the document says. Blanks, the order of members and the way strings are escaped do not
/// matter; the digits of numbers do, and so does the order of elements.
///
/// An object is replaced by its own hash as soon as it is complete. So each byte is moved and hashed a fixed
/// number of times, however the document is nested.
///
/// # Errors
/// [`MalformedJson`].
pub fn digest(text: &str) -> Result<[u8; 32], MalformedJson> {
    let mut state = State { out: Vec::with_capacity(text.len()), ..State::default() };
    let mut tokens = Tokens::new(text);
    while let Some(token) = tokens.advance()? {
        state.take(token);
    }
    Ok(Sha256::digest(&state.out).into())
}

#[derive(Default)]
struct State {
    /// What is complete, in a form that has one reading.
    out: Vec<u8>,
    /// Members of the objects that are open, outermost first.
    members: Vec<Member>,
    /// What is open.
    open: Vec<OpenValue>,
}

/// Places in [`State::out`]: a name, its value right behind it.
#[derive(Clone, Copy)]
struct Member {
    name: usize,
    value: usize,
    end: usize,
}

enum OpenValue {
    Array,
    Object { out: usize, members: usize },
}

impl State {
    fn take(&mut self, token: Token<'_>) {
        match token {
            Token::BeginArray => {
                self.out.push(b'[');
                self.open.push(OpenValue::Array);
                return;
            }
            Token::BeginObject => {
                self.open.push(OpenValue::Object { out: self.out.len(), members: self.members.len() });
                return;
            }
            Token::Name(name) => {
                let start = self.out.len();
                self.out.extend_from_slice(&name.bytes());
                let end = self.out.len();
                self.members.push(Member { name: start, value: end, end });
                return;
            }
            Token::EndArray => {
                self.open.pop();
                self.out.push(b']');
            }
            Token::EndObject => self.end_object(),
            Token::Text(text) => {
                let bytes = text.bytes();
                self.out.push(b'"');
                self.out.extend(length(bytes.len()));
                self.out.extend_from_slice(&bytes);
            }
            Token::Number(text) | Token::Word(text) => self.out.extend_from_slice(text.as_bytes()),
        }
        self.value_ended();
    }

    fn value_ended(&mut self) {
        match self.open.last() {
            Some(OpenValue::Array) => self.out.push(b','),
            Some(OpenValue::Object { .. }) => {
                if let Some(member) = self.members.last_mut() {
                    member.end = self.out.len();
                }
            }
            None => {}
        }
    }

    fn end_object(&mut self) {
        let Some(OpenValue::Object { out, members }) = self.open.pop() else { return };
        let text = &self.out;
        let own = &mut self.members[members..];
        own.sort_by(|a, b| text[a.name..a.value].cmp(&text[b.name..b.value]));
        let mut hasher = Sha256::new();
        for member in own {
            // Lengths keep `ab`, `c` apart from `a`, `bc`.
            hasher.update(length(member.value - member.name));
            hasher.update(length(member.end - member.value));
            hasher.update(&text[member.name..member.end]);
        }
        self.members.truncate(members);
        self.out.truncate(out);
        self.out.push(b'{');
        self.out.extend_from_slice(&hasher.finalize());
    }
}

fn length(bytes: usize) -> [u8; 8] {
    u64::try_from(bytes).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{Json, json, rewritten};
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        digest(a).unwrap() == digest(b).unwrap()
    }

    #[test]
    fn equal_json_is_equal_and_other_json_is_not() {
        for (a, b) in [
            ("{\"a\":1,\"b\":[2]}", " {\"b\" :\n[ 2 ], \"a\":\t1}"),
            ("\"\\u00fc\\/\"", "\"ü/\""),
            ("{\"\\u0061\":\"\\n\"}", "{\"a\":\"\\u000A\"}"),
            ("\"\\ud83d\\ude00\"", "\"😀\""),
            ("[1e400]", "[ 1e400 ]"),
            ("\"\\ud800\"", "\"\\uD800\""),
            ("{}", "{ }"),
        ] {
            assert!(same(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("{\"p\":100000000000000000000001}", "{\"p\":100000000000000000000002}"),
            ("1e400", "1e401"),
            ("1.0", "1"),
            ("-0", "0"),
            ("1", "\"1\""),
            ("null", "\"null\""),
            ("[]", "{}"),
            ("[1,2]", "[2,1]"),
            ("[1,[2]]", "[[1],2]"),
            ("[[],[]]", "[[[]]]"),
            ("[12,3]", "[1,23]"),
            ("[\"a\",\"b\"]", "[\"a\\\",\\\"b\"]"),
            ("{\"a\":{\"b\":1}}", "{\"a\":{\"b\":2}}"),
            ("{\"a\":\"b\"}", "{\"ab\":\"\"}"),
            ("{\"a\":1,\"b\":2}", "{\"a\":2,\"b\":1}"),
            ("\"\\ud800\"", "\"\\ud801\""),
            ("\"\\ud800\"", "\"\\ufffd\""),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn depth_costs_no_more_than_length() {
        let count = 50_000;
        // In the wrong order at each level: nothing may be moved again and again.
        let deep = |leaf: &str| "{\"z\":".repeat(count) + leaf + &",\"a\":0}".repeat(count);
        assert!(same(&deep("1"), &deep(" 1 ")));
        assert!(!same(&deep("1"), &deep("2")));
    }

    proptest! {
        #[test]
        fn writing_it_otherwise_changes_nothing(document in json(), seed in any::<u64>()) {
            prop_assert!(same(&document.compact(), &rewritten(&document, seed)));
        }

        #[test]
        fn another_document_has_another_digest(a in json(), b in json()) {
            prop_assert_eq!(Json::equal(&a, &b), same(&a.compact(), &b.compact()));
        }
    }
}
