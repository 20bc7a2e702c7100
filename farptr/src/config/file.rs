//! The configuration file: TOML, one key a setting. A key that isn't known is an error, since it is most likely a slip in
//! one that is, and silence would leave the default in force.

use super::{FAR_CAPACITY, Given, LOCAL_BUDGET, Layer, Name, SERVERS, SHARDS, Source, TIMEOUT, parse};
use farptr_runtime::{Error, Result};
use rustix::fs::OFlags;
use serde::Deserialize;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use toml::{Spanned, Value};

/// Most bytes of a configuration file. A longer one isn't one.
const MAX_BYTES: u64 = 1 << 20;

/// The file as it is written. Values are taken as they come, so that errors can be in this module's words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    local_budget: Option<Spanned<Value>>,
    servers: Option<Spanned<Value>>,
    shards: Option<Spanned<Value>>,
    far_capacity: Option<Spanned<Value>>,
    timeout: Option<Spanned<Value>>,
}

/// Reads the file that `named_by` names.
pub(super) fn read(path: &Path, named_by: &Source) -> Result<Layer> {
    match text_of(path) {
        Ok(text) => parse(path, &text),
        Err(error) => Err(named_by.error(format_args!("can't read {}: {error}", path.display()))),
    }
}

/// Reads the file, if there is one.
pub(super) fn read_if_there(path: &Path) -> Result<Layer> {
    match text_of(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_hidden(path) => Ok(Layer::default()),
        Err(error) => Err(Error::Config(format!("can't read {}: {error}", path.display()))),
    }
}

/// Whether it can't be seen if the file is there, because its folder may not be searched.
fn is_hidden(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    // Opening a pipe waits for a writer, and reading it for the writer's end.
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a pipe; write the settings to a file"));
    }
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is over 1 MiB, and so not a configuration file"));
    }
    Ok(text)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Layer> {
    let contents: Contents = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let said = error.message().replace("unknown field", "unknown key").replace('\n', "; ");
        Error::Config(format!("{}:{line}: {said}", path.display()))
    })?;
    let lines = Lines { path, text };
    let size = |name: &Name, value: Option<Spanned<Value>>| {
        lines.given(name, value).map(|given| given.try_map(size_or_number)).transpose()
    };
    let servers = lines.given(&SERVERS, contents.servers).map(|Given { value, source }| {
        let texts = server_texts(value).map_err(|problem| source.error(problem))?;
        parse::servers(texts.into_iter().map(|one| Given::new(one, source.clone())).collect())
    });
    Ok(Layer {
        local_budget: size(&LOCAL_BUDGET, contents.local_budget)?,
        servers: servers.transpose()?,
        shards: lines.given(&SHARDS, contents.shards).map(|given| given.try_map(whole_number)).transpose()?,
        far_capacity: size(&FAR_CAPACITY, contents.far_capacity)?,
        timeout: lines.given(&TIMEOUT, contents.timeout).map(|given| given.try_map(length_of_time)).transpose()?,
    })
}

/// Says at which line a value is.
struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Lines<'_> {
    fn given(&self, name: &Name, value: Option<Spanned<Value>>) -> Option<Given<Value>> {
        let value = value?;
        let line = line_of(self.text, value.span().start);
        Some(Given::new(value.into_inner(), Source::File { path: self.path.to_owned(), line, key: name.key }))
    }
}

/// Number of the line, from 1, that the byte at `offset` is in.
fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn size_or_number(value: Value) -> Result<u64, String> {
    match value {
        Value::String(text) => parse::size(&text),
        Value::Integer(bytes) if bytes >= 0 => Ok(bytes.unsigned_abs()),
        other => parse::size(&other.to_string()).map_err(|problem| problem.replace('\n', " ")),
    }
}

fn whole_number(value: Value) -> Result<usize, String> {
    match value {
        Value::Integer(number) if number >= 0 => usize::try_from(number).map_err(|error| error.to_string()),
        other => Err(format!("`{}` is not a whole number, like 0 or 4", one_line(&other))),
    }
}

fn length_of_time(value: Value) -> Result<std::time::Duration, String> {
    match value {
        Value::String(text) => parse::duration(&text),
        other => parse::duration(&one_line(&other)),
    }
}

/// A single address, or a list of them.
fn server_texts(value: Value) -> Result<Vec<String>, String> {
    const EXAMPLE: &str = "write it like servers = [\"tcp:127.0.0.1:7070\"]";
    let each = match value {
        Value::Array(each) if each.is_empty() => {
            return Err("the list is empty; leave the key out for the embedded server".into());
        }
        Value::Array(each) => each,
        one => vec![one],
    };
    each.into_iter()
        .map(|one| match one {
            Value::String(text) => Ok(text),
            other => Err(format!("`{}` is not a server's address; {EXAMPLE}", one_line(&other))),
        })
        .collect()
}

fn one_line(value: &Value) -> String {
    value.to_string().replace('\n', " ")
}
