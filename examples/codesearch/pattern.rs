//! A pattern: what the person gave, the regular expression it means, and the plan that finds its files.
//!
//! The syntax is that of the crate `regex`, with Unicode on: `.`, classes and case-insensitivity know all of Unicode, and `(?-u)`
//! switches to bytes. As with grep, several lines in one pattern are alternatives, and a pattern is matched against one line at
//! a time, without its line end.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;

use super::error::{Failure, Result};
use super::plan::Plan;

/// How patterns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// Regular expressions.
    Regex,
    /// The text itself.
    Literal,
}

/// Whether case matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// It does.
    Sensitive,
    /// It doesn't.
    Insensitive,
}

/// A pattern ready to be searched for.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
    plan: Plan,
}

impl Pattern {
    /// Reads `text`.
    pub fn new(text: &str, syntax: Syntax, case: Case) -> Result<Self> {
        let expression = expression(text, syntax);
        let refuse = |why: String| Failure::Pattern { pattern: text.to_owned(), why };
        let insensitive = case == Case::Insensitive;
        let hir = ParserBuilder::new()
            .utf8(false)
            .case_insensitive(insensitive)
            .build()
            .parse(&expression)
            .map_err(|error| refuse(one_line(&error)))?;
        let regex = RegexBuilder::new(&expression)
            .case_insensitive(insensitive)
            .build()
            .map_err(|error| refuse(error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ")))?;
        Ok(Pattern { text: text.to_owned(), regex, plan: Plan::of(&hir) })
    }

    /// The pattern as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to match lines with.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }

    /// What to ask the index.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

fn expression(text: &str, syntax: Syntax) -> String {
    let line = |line: &str| match syntax {
        Syntax::Regex => line.to_owned(),
        Syntax::Literal => regex::escape(line),
    };
    match text.contains('\n') {
        false => line(text),
        true => text.split('\n').map(|text| format!("(?:{})", line(text))).collect::<Vec<_>>().join("|"),
    }
}

/// The parser's error without its drawing of where it is.
fn one_line(error: &regex_syntax::Error) -> String {
    let (why, span) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span()),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span()),
        other => return other.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "),
    };
    format!("{why} (at character {})", span.start.column)
}
