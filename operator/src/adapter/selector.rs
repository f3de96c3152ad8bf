//! Label selectors as text (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>): those over the labels
//! of a metric. Selectors over Pods and models are left to the API server.

use std::collections::BTreeSet;

use kube::core::{Expression, Selector};

/// A text that is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {0:?} in a label selector: write KEY=VALUE, KEY!=VALUE, KEY in (VALUE,…), KEY notin (VALUE,…), KEY or !KEY"
)]
pub struct SelectorError(String);

/// Reads a selector; an empty text selects everything.
pub fn parse_selector(text: &str) -> Result<Selector, SelectorError> {
    requirements(text).into_iter().filter(|text| !text.trim().is_empty()).map(|text| expression(text.trim())).collect()
}

/// Between commas that do not stand in parentheses.
fn requirements(text: &str) -> Vec<&str> {
    let mut is_inside = false;
    let is_separator = |character: char| {
        match character {
            '(' => is_inside = true,
            ')' => is_inside = false,
            _ => {}
        }
        character == ',' && !is_inside
    };
    text.split(is_separator).collect()
}

fn expression(text: &str) -> Result<Expression, SelectorError> {
    let error = || SelectorError(text.to_owned());
    if let Some((key, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values: BTreeSet<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match key.split_whitespace().collect::<Vec<_>>().as_slice() {
            [key, "in"] => Ok(Expression::In(word(key).ok_or_else(error)?, values)),
            [key, "notin"] => Ok(Expression::NotIn(word(key).ok_or_else(error)?, values)),
            _ => Err(error()),
        };
    }
    let pair = |key: &str, value: &str| Some((word(key)?, word_or_nothing(value)?));
    if let Some((key, value)) = text.split_once("!=") {
        return pair(key, value).map(|(key, value)| Expression::NotEqual(key, value)).ok_or_else(error);
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return pair(key, value).map(|(key, value)| Expression::Equal(key, value)).ok_or_else(error);
    }
    match text.strip_prefix('!') {
        Some(key) => word(key).map(Expression::DoesNotExist).ok_or_else(error),
        None => word(text).map(Expression::Exists).ok_or_else(error),
    }
}

fn word(text: &str) -> Option<String> {
    word_or_nothing(text).filter(|word| !word.is_empty())
}

fn word_or_nothing(text: &str) -> Option<String> {
    let word = text.trim();
    word.chars()
        .all(|character| character.is_ascii_alphanumeric() || "-_./".contains(character))
        .then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::SelectorExt;
    use std::collections::BTreeMap;

    #[test]
    fn a_selector_selects_as_it_does_everywhere_in_kubernetes() {
        let labels = BTreeMap::from([("model_name".to_owned(), "text2sql".to_owned())]);
        for (text, is_selected) in [
            ("", true),
            ("model_name=text2sql", true),
            ("model_name==text2sql", true),
            ("model_name=other", false),
            ("model_name!=other", true),
            ("model_name in (other, text2sql)", true),
            ("model_name notin (other,text2sql)", false),
            ("model_name,!engine", true),
            ("engine", false),
            ("model_name in (a,text2sql),engine!=1", true),
        ] {
            assert_eq!(parse_selector(text).unwrap().matches(&labels), is_selected, "{text}");
        }
        for text in ["=a", "a b", "a in text2sql", "a in", "a within (b)", "!", "a=b=c", "in (a)"] {
            assert!(parse_selector(text).is_err(), "{text}");
        }
    }
}
