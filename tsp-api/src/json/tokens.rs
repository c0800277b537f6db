//! From text to tokens, with the grammar of RFC 8259 checked on the way.

use thiserror::Error;

use super::text::Text;

/// Deeper is refused: far beyond what a body of the longest payload can hold, so that memory is bounded too.
pub const DEPTH_MAX: usize = 1 << 20;

/// The text is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is no JSON from byte {at} on")]
pub struct MalformedJson {
    pub at: usize,
}

/// One piece of a document. What stands between pieces is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'a> {
    BeginArray,
    EndArray,
    BeginObject,
    EndObject,
    /// The name of a member; its value comes next.
    Name(Text<'a>),
    Text(Text<'a>),
    /// As it was written.
    Number(&'a str),
    /// `true`, `false` or `null`.
    Word(&'a str),
}

/// The tokens of one document.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// Where the last token began.
    start: usize,
    /// What is open, outermost first: whether it is an object.
    open: Vec<bool>,
    next: Next,
}

/// What may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Name,
    NameOrEnd,
    CommaOrEnd,
    Nothing,
}

impl<'a> Tokens<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, start: 0, open: Vec::new(), next: Next::Value }
    }

    /// How many arrays and objects are open.
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// Where the last token began, and where it ended.
    pub fn span(&self) -> (usize, usize) {
        (self.start, self.at)
    }

    /// `None` once the document is complete.
    ///
    /// # Errors
    /// [`MalformedJson`], also for what follows the document.
    pub fn advance(&mut self) -> Result<Option<Token<'a>>, MalformedJson> {
        loop {
            self.skip_blanks();
            self.start = self.at;
            let Some(byte) = self.peek() else {
                return if self.next == Next::Nothing { Ok(None) } else { Err(self.malformed()) };
            };
            match (self.next, byte) {
                (Next::CommaOrEnd, b',') => {
                    self.at += 1;
                    let in_object = self.open.last() == Some(&true);
                    self.next = if in_object { Next::Name } else { Next::Value };
                }
                (Next::CommaOrEnd | Next::ValueOrEnd, b']') => return self.close(false, Token::EndArray),
                (Next::CommaOrEnd | Next::NameOrEnd, b'}') => return self.close(true, Token::EndObject),
                (Next::Name | Next::NameOrEnd, b'"') => return self.name().map(Some),
                (Next::Value | Next::ValueOrEnd, _) => return self.value(byte).map(Some),
                _ => return Err(self.malformed()),
            }
        }
    }

    fn value(&mut self, byte: u8) -> Result<Token<'a>, MalformedJson> {
        let token = match byte {
            b'[' => return self.open(false, Token::BeginArray),
            b'{' => return self.open(true, Token::BeginObject),
            b'"' => Token::Text(self.string()?),
            b'-' | b'0'..=b'9' => Token::Number(self.number()?),
            _ => Token::Word(self.word()?),
        };
        self.after_value();
        Ok(token)
    }

    fn open(&mut self, object: bool, token: Token<'a>) -> Result<Token<'a>, MalformedJson> {
        if self.open.len() == DEPTH_MAX {
            return Err(self.malformed());
        }
        self.at += 1;
        self.open.push(object);
        self.next = if object { Next::NameOrEnd } else { Next::ValueOrEnd };
        Ok(token)
    }

    fn close(&mut self, object: bool, token: Token<'a>) -> Result<Option<Token<'a>>, MalformedJson> {
        if self.open.last() != Some(&object) {
            return Err(self.malformed());
        }
        self.at += 1;
        self.open.pop();
        self.after_value();
        Ok(Some(token))
    }

    fn name(&mut self) -> Result<Token<'a>, MalformedJson> {
        let name = self.string()?;
        let end = self.at;
        self.skip_blanks();
        if self.peek() != Some(b':') {
            return Err(self.malformed());
        }
        self.at += 1;
        self.next = Next::Value;
        debug_assert!(end < self.at);
        Ok(Token::Name(name))
    }

    /// From the quote on.
    fn string(&mut self) -> Result<Text<'a>, MalformedJson> {
        self.at += 1;
        let begin = self.at;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) | None => return Err(self.malformed()),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(Text::new(&self.text[begin..self.at - 1]))
    }

    fn escape(&mut self) -> Result<(), MalformedJson> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.malformed());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.malformed()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<&'a str, MalformedJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[self.start..self.at])
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), MalformedJson> {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == begin { Err(self.malformed()) } else { Ok(()) }
    }

    fn word(&mut self) -> Result<&'a str, MalformedJson> {
        let rest = &self.text.as_bytes()[self.at..];
        let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word.as_bytes()));
        let word = word.ok_or_else(|| self.malformed())?;
        self.at += word.len();
        Ok(word)
    }

    fn after_value(&mut self) {
        self.next = if self.open.is_empty() { Next::Nothing } else { Next::CommaOrEnd };
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn malformed(&self) -> MalformedJson {
        MalformedJson { at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::super::testing::{any_json, near_json};
    use super::*;

    fn is_json(text: &str) -> bool {
        let mut tokens = Tokens::new(text);
        loop {
            match tokens.advance() {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn parser_says(text: &str) -> bool {
        serde_json::from_str::<&RawValue>(text).is_ok()
    }

    #[test]
    fn takes_what_a_parser_takes_and_nothing_else() {
        for text in [
            "1",
            " [ ] ",
            "{}",
            "{\"a\":1}",
            "[1,[2],{\"b\":null}]",
            "1e400",
            "-0",
            "0.10E-7",
            "\"\\ud800\"",
            "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00fc\"",
            "true",
            "false",
            "null",
            "",
            " ",
            "[",
            "]",
            "[1,]",
            "[,1]",
            "{",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{1:2}",
            "[}",
            "{]",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "+1",
            "tru",
            "nul",
            "nullx",
            "1 2",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\u{1}\"",
            "\"a\nb\"",
            "{\"a\":1 \"b\":2}",
            "[1 2]",
            "\u{feff}1",
            "'a'",
            "NaN",
        ] {
            assert_eq!(is_json(text), parser_says(text), "{text}");
        }
    }

    #[test]
    fn nests_without_the_stack_and_not_for_ever() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_json(&deep(DEPTH_MAX)));
        assert!(!is_json(&deep(DEPTH_MAX + 1)));
    }

    proptest! {
        #[test]
        fn agrees_with_a_parser(text in near_json(), good in any_json(), cut in any::<prop::sample::Index>()) {
            prop_assert_eq!(is_json(&text), parser_says(&text), "{}", text);
            prop_assert!(is_json(&good) && parser_says(&good), "{}", good);
            let cut = good.char_indices().map(|(at, _)| at).nth(cut.index(good.chars().count())).unwrap_or(0);
            prop_assert_eq!(is_json(&good[..cut]), parser_says(&good[..cut]), "{}", &good[..cut]);
        }
    }
}
