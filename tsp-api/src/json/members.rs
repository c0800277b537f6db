//! Objects taken apart one level deep.

use super::text::Text;
use super::tokens::{MalformedJson, Token, Tokens};

/// A member of an object, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    pub name: Text<'a>,
    /// A document of its own.
    pub value: &'a str,
}

/// The members of an object in their order; `None` for JSON that is no object.
///
/// # Errors
/// [`MalformedJson`].
pub fn members(text: &str) -> Result<Option<Vec<Member<'_>>>, MalformedJson> {
    let mut tokens = Tokens::new(text);
    let is_object = tokens.advance()? == Some(Token::BeginObject);
    let mut members: Vec<Member<'_>> = Vec::new();
    let mut from = None;
    while let Some(token) = tokens.advance()? {
        if !is_object {
            continue;
        }
        match (tokens.depth(), token) {
            (1, Token::Name(name)) => {
                members.push(Member { name, value: "" });
                from = None;
                continue;
            }
            // The object's own end.
            (0, _) => continue,
            _ => {}
        }
        let (start, end) = tokens.span();
        let from = *from.get_or_insert(start);
        if tokens.depth() == 1
            && let Some(member) = members.last_mut()
        {
            member.value = &text[from..end];
        }
    }
    Ok(is_object.then_some(members))
}

/// How deep arrays and objects are nested; 0 for a value that is neither.
///
/// # Errors
/// [`MalformedJson`].
pub fn depth(text: &str) -> Result<usize, MalformedJson> {
    let mut tokens = Tokens::new(text);
    let mut deepest = 0;
    while tokens.advance()?.is_some() {
        deepest = deepest.max(tokens.depth());
    }
    Ok(deepest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::json;
    use super::*;

    fn split(text: &str) -> Option<Vec<(String, String)>> {
        let members = members(text).unwrap()?;
        Some(members.iter().map(|member| (member.name.shown(), member.value.to_owned())).collect())
    }

    #[test]
    fn values_keep_their_text() {
        let text =
            " { \"a\" : [1, {\"b\": 2} ] ,\"\\u0062\": {\"c\" :[ ]}, \"d\": 1e400 , \"e\":\"\\ud800\" } ";
        let wanted = [("a", "[1, {\"b\": 2} ]"), ("b", "{\"c\" :[ ]}"), ("d", "1e400"), ("e", "\"\\ud800\"")];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(split(text).unwrap(), wanted);
        assert_eq!(split("{}"), Some(Vec::new()));
        for other in ["[{\"a\":1}]", "1", "null", "\"{}\""] {
            assert_eq!(split(other), None, "{other}");
        }
        assert!(members("{\"a\":1").is_err() && members("{} {}").is_err());
    }

    #[test]
    fn depths() {
        for (text, wanted) in [("1", 0), ("[]", 1), ("{\"a\":1}", 1), ("[[1],{\"a\":[]}]", 3)] {
            assert_eq!(depth(text), Ok(wanted), "{text}");
        }
    }

    proptest! {
        #[test]
        fn put_together_again_it_is_the_same(documents in prop::collection::vec(json(), 0..5)) {
            let texts: Vec<String> = documents.iter().map(super::super::testing::Json::compact).collect();
            let whole: Vec<String> =
                texts.iter().enumerate().map(|(at, text)| format!("\"n{at}\": {text}")).collect();
            let found = split(&format!("{{{}}}", whole.join(" , "))).unwrap();
            prop_assert_eq!(found.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), texts);
        }
    }
}
