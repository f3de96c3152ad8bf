//! JSON as Python's `json.dumps` writes it: chat templates were written for its spaces and numbers.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::{Error, Value};

/// The arguments of `json.dumps`.
#[derive(Clone, Debug, Default)]
pub(super) struct JsonStyle {
    /// Characters beyond ASCII are escaped.
    pub(super) ascii: bool,
    /// Every element on a line of its own, so many spaces deeper than its parent.
    pub(super) indent: Option<usize>,
    /// Between elements, and between a key and its value.
    pub(super) separators: Option<(String, String)>,
    /// Keys in alphabetical order.
    pub(super) sort_keys: bool,
}

impl JsonStyle {
    /// The text of a value; fails beyond `limit` bytes.
    pub(super) fn write(&self, mut value: Value, limit: usize) -> Result<String, Error> {
        if self.sort_keys {
            value.sort_all_objects();
        }
        let between = if self.indent.is_some() { "," } else { ", " };
        let (item, key) = self.separators.clone().unwrap_or_else(|| (between.to_owned(), ": ".to_owned()));
        let format = PythonFormat { ascii: self.ascii, indent: self.indent, item, key, depth: 0, empty: true };
        let mut text = Limited { bytes: Vec::new(), limit };
        value.serialize(&mut Serializer::with_formatter(&mut text, format))?;
        String::from_utf8(text.bytes).map_err(serde::ser::Error::custom)
    }
}

struct Limited {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.limit {
            return Err(io::Error::other(format!("the text is longer than {} bytes", self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PythonFormat {
    ascii: bool,
    indent: Option<usize>,
    item: String,
    key: String,
    depth: usize,
    /// Whether the innermost array or object has no element yet.
    empty: bool,
}

impl PythonFormat {
    fn open<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn close<W: Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.break_line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }

    fn begin<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.break_line(writer)
    }

    fn break_line<W: Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{:1$}", "", indent.min(100) * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for PythonFormat {
    /// The shortest digits that give the number back, an exponent with its sign and at least two digits.
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let text = Value::from(value).to_string();
        match text.split_once('e') {
            Some((digits, exponent)) => {
                let exponent: i32 = exponent.parse().map_err(io::Error::other)?;
                let digits = digits.strip_suffix(".0").unwrap_or(digits);
                write!(writer, "{digits}e{exponent:+03}")
            }
            None => writer.write_all(text.as_bytes()),
        }
    }

    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if matches!(character, ' '..='~') {
                write!(writer, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn begin_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin(writer, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn begin_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin(writer, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }
}
