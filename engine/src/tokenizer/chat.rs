//! Chat templates: Jinja as transformers runs it, in a sandbox. A template is part of a checkpoint, so it is not trusted:
//! instructions and output are bounded.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, context};
use serde::{Deserialize, Serialize};

use super::{SpecialTexts, TokenizerError};

/// Instructions that one rendering may execute: thousands of messages.
const FUEL: u64 = 2_000_000;
/// Longest prompt, in bytes.
const MAXIMUM_OUTPUT: usize = 8 << 20;
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
    special: SpecialTexts,
}

impl ChatTemplate {
    pub(super) fn new(source: String, special: SpecialTexts) -> Result<Self, TokenizerError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(TokenizerError::Template)?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, source.clone()).map_err(TokenizerError::Template)?;
        Ok(Self { source, environment, special })
    }

    pub(super) fn source(&self) -> &str {
        &self.source
    }

    pub(super) fn render(&self, messages: &[impl Serialize]) -> Result<String, Error> {
        let values = context! {
            messages => Serde(messages),
            add_generation_prompt => true,
            bos_token => self.special.bos.as_str(),
            eos_token => self.special.eos.as_str(),
        };
        let mut output = Bounded(Vec::new());
        self.environment.get_template(NAME)?.render_captured_to(values, &mut output)?;
        String::from_utf8(output.0).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
    }
}

/// What templates call to refuse messages.
fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
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
