//! Chat templates: Jinja as transformers runs it, in a sandbox. A template is part of a checkpoint, so it is not trusted:
//! instructions and output are bounded.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::ZonedDateTime;
use jiff::fmt::strtime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, context, escape_formatter};
use serde::{Deserialize, Serialize};

use super::python_json::JsonStyle;
use super::{SpecialTexts, TokenizerError};

/// Instructions that one rendering may execute: thousands of messages.
const FUEL: u64 = 2_000_000;
/// Longest prompt, in bytes.
const MAXIMUM_OUTPUT: usize = 8 << 20;
/// Bytes of JSON that cost as much as an instruction.
const JSON_BYTES_PER_FUEL: u64 = 16;
const NAME: &str = "chat_template";

/// One turn of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A compiled template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    /// `bos_token` and the like, those that there are.
    special: BTreeMap<String, String>,
}

impl ChatTemplate {
    pub(super) fn new(source: String, special: SpecialTexts) -> Result<Self, TokenizerError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(TokenizerError::Template)?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_formatter(print_as_python);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: String| time_text(&ZonedDateTime::now(), &format));
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, without_generation_tags(&source)).map_err(TokenizerError::Template)?;
        let own = [("bos_token".to_owned(), special.bos), ("eos_token".to_owned(), special.eos)];
        let special = special.others.into_iter().chain(own).filter(|(_, text)| !text.is_empty()).collect();
        Ok(Self { source, environment, special })
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn render(&self, messages: &[impl Serialize]) -> Result<String, Error> {
        let values = context! {
            messages => Serde(messages),
            add_generation_prompt => true,
            // defined, as in transformers, which templates ask for
            tools => (),
            documents => (),
            ..Value::from_pairs(&self.special)
        };
        let mut output = Bounded(Vec::new());
        self.environment.get_template(NAME)?.render_captured_to(values, &mut output)?;
        String::from_utf8(output.0).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
    }
}

/// Writes what an expression gives: `True`, `False` and `None` as in Python.
fn print_as_python(output: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool => Ok(output.write_str(if value.is_true() { "True" } else { "False" })?),
        ValueKind::None => Ok(output.write_str("None")?),
        _ => escape_formatter(output, state, value),
    }
}

/// What templates call to refuse messages.
fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// A moment as Python's `strftime` writes it.
fn time_text(now: &ZonedDateTime, format: &str) -> Result<String, Error> {
    strtime::format(format, now).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
}

/// `value | tojson`, as Python's `json.dumps` writes it and not as Jinja does, which escapes what means something in HTML.
#[expect(clippy::needless_pass_by_value, reason = "this is how filters take their options")]
fn to_json(state: &State<'_, '_>, value: &Value, options: Kwargs) -> Result<String, Error> {
    let separators: Option<Vec<String>> = options.get("separators")?;
    let style = JsonStyle {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: options.get("indent")?,
        separators: match separators.as_deref() {
            Some([item, key]) => Some((item.clone(), key.clone())),
            _ => None,
        },
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let value = serde_json::to_value(value);
    let text = value.and_then(|value| style.write(value, MAXIMUM_OUTPUT));
    let text = text.map_err(|e| Error::new(ErrorKind::InvalidOperation, format!("`tojson` failed: {e}")))?;
    state.consume_fuel(text.len() as u64 / JSON_BYTES_PER_FUEL)?;
    Ok(text)
}

/// `{% generation %}` marks what an assistant said, for training; it prints nothing. A block that always happens stands in for it.
fn without_generation_tags(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag, after)) = next_tag(rest) {
        result.push_str(before);
        let inner = tag.trim_start_matches("{%").trim_end_matches("%}");
        let name = inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let replacement = match name {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => name,
        };
        result.push_str(&if replacement == name { tag.to_owned() } else { tag.replace(name, replacement) });
        rest = after;
    }
    result + rest
}

/// The text before the next `{% … %}`, the tag, and the text after it. Comments belong to the text before.
fn next_tag(source: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + source[from..].find("{%")?;
        if let Some(comment) = source[from..start].find("{#") {
            let comment = from + comment;
            from = comment + source[comment..].find("#}")? + 2;
            continue;
        }
        let end = start + source[start..].find("%}")? + 2;
        return Some((&source[..start], &source[start..end], &source[end..]));
    }
}

/// A buffer that refuses to grow beyond [`MAXIMUM_OUTPUT`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAXIMUM_OUTPUT {
            return Err(io::Error::other(format!("the prompt is longer than {MAXIMUM_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use jiff::tz::TimeZone;

    use super::time_text;

    #[test]
    fn times_are_written_as_python_does() {
        let moment = date(2024, 7, 26).at(9, 5, 3, 0).to_zoned_datetime(TimeZone::UTC).unwrap();
        let written = |format| time_text(&moment, format).unwrap();
        assert_eq!(written("%d %b %Y"), "26 Jul 2024");
        assert_eq!(written("%Y-%m-%d %H:%M:%S, %A %B %j %p%%"), "2024-07-26 09:05:03, Friday July 208 AM%");
        assert!(time_text(&moment, "%").is_err());
    }
}
