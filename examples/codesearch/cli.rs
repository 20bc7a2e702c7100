//! The command line.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;
use clap::Parser;
use clap::error::ErrorKind;

use super::error::{Failure, Result};
use super::output::Form;
use super::pattern::{Case, Pattern, Syntax};

const ABOUT: &str = "Search source text by a trigram index that lies in far memory";

const EXAMPLES: &str = "\
Examples:
  codesearch                             index the crate sources of this machine; ask for patterns on a terminal,
                                         or run a few for show
  codesearch 'unsafe impl'               search them for one pattern, as grep -rnI would
  codesearch 'fn \\w+_unchecked' ~/src    search another folder
  codesearch -e TODO -e FIXME -c ~/src   two patterns, counts for each file
  codesearch -iF 'content-length'        text instead of a regex, any case
  codesearch --local-memory 8MiB -f patterns.txt
                                         a budget in bytes, a pattern a line from a file
  codesearch --server 127.0.0.1:7070 --local-memory 10% --json 'unwrap\\(\\)'
                                         far memory of farmemd at that address; figures as JSON, nothing else

What is searched: every regular file below the folder, hidden ones too; links are not followed; files with NUL bytes are
skipped. What is printed: path:line:text on stdout, as `grep -rnI` does; progress and the summary go to stderr. Regexes are those
of the crate `regex`, matched against one line at a time.
Exit status: 0 if a line matched, 1 if none did, 2 if something went wrong.";

/// What may stand on the command line.
#[derive(Debug, Parser)]
#[command(name = "codesearch", about = ABOUT, after_help = EXAMPLES, version)]
struct Arguments {
    /// What to search for; with -e or -f this is the folder
    #[arg(value_name = "PATTERN")]
    first: Option<OsString>,
    /// The folder to index [default: $CARGO_HOME/registry/src, or ~/.cargo/registry/src]
    #[arg(value_name = "DIR")]
    second: Option<OsString>,
    /// Search for PATTERN; may be given several times, each is answered on its own
    #[arg(short = 'e', long = "regexp", value_name = "PATTERN", allow_hyphen_values = true)]
    patterns: Vec<String>,
    /// Search for each line of FILE (- is standard input)
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The folder to index, when no pattern is given
    #[arg(long = "dir", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Patterns are text, not regexes
    #[arg(short = 'F', long = "literal", visible_alias = "fixed-strings")]
    literal: bool,
    /// Ignore case
    #[arg(short = 'i', long = "ignore-case")]
    ignore_case: bool,
    /// Print path:count for each file that matches, instead of its lines
    #[arg(short = 'c', long = "count")]
    count: bool,
    /// Local memory budget: bytes (64MiB) or a percentage of the bytes indexed [default: 25%]
    #[arg(long = "local-memory", value_name = "SIZE|PERCENT", allow_hyphen_values = true)]
    local_memory: Option<LocalMemory>,
    /// Keep far memory at the farmemd listening there, HOST:PORT or unix:PATH [default: lent by this process itself]
    #[arg(long = "server", value_name = "ADDRESS")]
    server: Option<String>,
    /// Don't do it all again in ordinary memory for comparison
    #[arg(long = "no-all-local")]
    no_all_local: bool,
    /// Print one JSON object with the figures on stdout, and no matches
    #[arg(long = "json")]
    json: bool,
}

/// How much local memory may be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LocalMemory {
    /// So many bytes.
    Bytes(u64),
    /// So much of the bytes indexed.
    Percent(f64),
}

impl LocalMemory {
    /// The budget in bytes, for so many bytes indexed.
    pub fn bytes(self, indexed: u64) -> u64 {
        match self {
            LocalMemory::Bytes(bytes) => bytes,
            LocalMemory::Percent(percent) => (indexed as f64 * percent / 100.0).round() as u64,
        }
    }
}

impl FromStr for LocalMemory {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let refuse = || format!("'{text}' is not an amount of memory; write a size such as 64MiB or a percentage such as 25%");
        let amount = match text.trim().strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim().parse().map_err(|_| refuse())?;
                if !percent.is_finite() {
                    return Err(refuse());
                }
                LocalMemory::Percent(percent)
            }
            None => LocalMemory::Bytes(text.trim().parse::<ByteSize>().map_err(|_| refuse())?.as_u64()),
        };
        match amount {
            LocalMemory::Bytes(0) => Err("no local memory at all is too little; write a size such as 64MiB".to_owned()),
            LocalMemory::Bytes(bytes) if bytes > isize::MAX as u64 => {
                Err(format!("'{text}' is more memory than a program can address; write a size such as 64MiB"))
            }
            LocalMemory::Percent(percent) if percent <= 0.0 || percent > 1000.0 => {
                Err(format!("'{text}' is not between 0% and 1000% of the bytes indexed; write a percentage such as 25%"))
            }
            amount => Ok(amount),
        }
    }
}

/// Where the patterns come from.
#[derive(Debug, Clone)]
pub enum Patterns {
    /// They were given.
    Given(Vec<Pattern>),
    /// They are asked for.
    Asked,
}

/// What the person wants.
#[derive(Debug, Clone)]
pub struct Options {
    /// The patterns.
    pub patterns: Patterns,
    /// How those that are asked for are read.
    pub syntax: Syntax,
    /// And whether their case matters.
    pub case: Case,
    /// The folder, if one was given.
    pub dir: Option<PathBuf>,
    /// The local memory budget, if one was given.
    pub local_memory: Option<LocalMemory>,
    /// The memory server, if one was given.
    pub server: Option<String>,
    /// Whether to compare with ordinary memory.
    pub all_local: bool,
    /// Whether figures go to stdout as JSON.
    pub json: bool,
    /// How matches are printed.
    pub form: Form,
}

/// What the command line comes to.
#[derive(Debug)]
pub enum Command {
    /// Search.
    Search(Box<Options>),
    /// Print this, which was asked for.
    Help(String),
}

impl Command {
    /// Reads a command line, the program's name first.
    pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Command> {
        match Arguments::try_parse_from(line) {
            Ok(arguments) => Ok(Command::Search(Box::new(arguments.options()?))),
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                Ok(Command::Help(error.render().to_string()))
            }
            Err(error) => Err(Failure::Setting(one_line(&error))),
        }
    }
}

/// What is wrong, without the usage that clap adds to it.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    format!("{} (codesearch --help shows examples)", first.join(" ").trim_start_matches("error: "))
}

impl Arguments {
    fn options(self) -> Result<Options> {
        let given = !self.patterns.is_empty() || self.file.is_some();
        let mut texts = self.patterns;
        if let Some(file) = &self.file {
            texts.extend(lines_of(file)?);
        }
        let folder = match (given, self.first, self.second) {
            (true, folder, None) => folder,
            (true, _, Some(extra)) => {
                return Err(setting(format!(
                    "'{}' is one argument too many: with -e or -f only the folder follows",
                    extra.display()
                )));
            }
            (false, None, second) => second,
            (false, Some(pattern), folder) => {
                if folder.is_none() && self.dir.is_none() {
                    refuse_folder(&pattern)?;
                }
                texts.push(pattern.into_string().map_err(|pattern| {
                    setting(format!("pattern '{}' is not UTF-8; write bytes as (?-u)\\xFF", pattern.display()))
                })?);
                folder
            }
        };
        let dir = match (self.dir, folder.map(PathBuf::from)) {
            (Some(dir), Some(folder)) => {
                let (dir, folder) = (dir.display(), folder.display());
                return Err(setting(format!("two folders: --dir {dir} and {folder}; several patterns are given with -e")));
            }
            (dir, folder) => dir.or(folder),
        };
        let syntax = if self.literal { Syntax::Literal } else { Syntax::Regex };
        let case = if self.ignore_case { Case::Insensitive } else { Case::Sensitive };
        let compiled = texts.iter().map(|text| Pattern::new(text, syntax, case)).collect::<Result<Vec<_>>>()?;
        let form = match (self.json, self.count) {
            (true, _) => Form::Nothing,
            (false, true) => Form::Counts,
            (false, false) => Form::Lines,
        };
        let asked = compiled.is_empty() && self.file.is_none();
        Ok(Options {
            patterns: if asked { Patterns::Asked } else { Patterns::Given(compiled) },
            syntax,
            case,
            dir,
            local_memory: self.local_memory,
            server: self.server,
            all_local: !self.no_all_local,
            json: self.json,
            form,
        })
    }
}

/// Someone who gives only a folder wants it indexed, rather than searched for by name; but who knows.
fn refuse_folder(pattern: &OsString) -> Result<()> {
    let path = Path::new(pattern);
    if path.components().count() > 1 && path.is_dir() {
        let path = path.display();
        return Err(setting(format!(
            "'{path}' is a folder: write --dir {path} to index it, or -e {path} to search for that text"
        )));
    }
    Ok(())
}

fn lines_of(file: &Path) -> Result<Vec<String>> {
    let mut text = String::new();
    let read = match file == Path::new("-") {
        true => io::stdin().read_to_string(&mut text),
        false => fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text)),
    };
    match read {
        Ok(_) => Ok(text.lines().map(str::to_owned).collect()),
        Err(cause) => {
            Err(setting(format!("can't read patterns from {}: {cause}; give a text file, a pattern a line", file.display())))
        }
    }
}

fn setting(text: String) -> Failure {
    Failure::Setting(text)
}
