//! The program: from its command line to its exit status.
//!
//! The run in far memory comes first and its peak resident memory is read before the run in ordinary memory begins, so that the
//! one doesn't hide in the other. The tree is read once before either, to size it; so both find its files in the page cache.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use farptr::FarMemory;

use super::cli::{Command, LocalMemory, Options, Patterns};
use super::error::{Failure, Result};
use super::far::FarStore;
use super::job::Job;
use super::output::{Form, Printer};
use super::pattern::{Case, Pattern, Syntax};
use super::progress::Progress;
use super::report::{Report, ResidentBytes, counted, time};
use super::store::{LocalStore, Store};
use super::tree::{Reader, Reading, Survey, Tree};

/// Local memory if nothing is said.
const DEFAULT_LOCAL_MEMORY: LocalMemory = LocalMemory::Percent(25.0);
/// And the least of it: a quarter of a small folder would be less than the library works with.
const LEAST_DEFAULT_BYTES: u64 = 4 << 20;
/// How long a standard input that is no terminal may say nothing before it is taken for empty. Indexing has gone before, so this
/// is on top of seconds; `-f -` waits for as long as it takes.
const SILENCE: Duration = Duration::from_secs(1);
/// Lines printed of each pattern that is searched for only for show.
const SHOWN: u64 = 3;
/// Searched for when nobody asks for anything: text, a rare word, alternatives, classes, any case, not ASCII, and at last one
/// about which the index knows nothing, so that everything is read.
const DEMONSTRATION: [&str; 7] = [
    "unsafe impl",
    "MAP_HUGETLB",
    r"fn (try_)?from_raw_parts(_mut)?\b",
    r"#\[deny\([a-z_]+\)\]",
    "(?i)thread[- ]safe",
    "naïve|Ångström",
    r"\b[0-9]{3}-[0-9]{4}\b",
];

/// Status for "no line matched".
const NO_MATCH: u8 = 1;
/// Status for "something went wrong".
const TROUBLE: u8 = 2;

/// Runs the program.
pub fn run(line: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Command::parse(line).and_then(|command| match command {
        Command::Search(options) => search(*options),
        Command::Help(text) => print(&text).map(|()| Ending::Matched),
    }) {
        Ok(Ending::Matched) => ExitCode::SUCCESS,
        Ok(Ending::NoMatch) => ExitCode::from(NO_MATCH),
        Ok(Ending::Trouble) => ExitCode::from(TROUBLE),
        Err(failure) if failure.is_reader_gone() => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::from(TROUBLE)
        }
    }
}

enum Ending {
    Matched,
    NoMatch,
    /// It went on to the end, but something on the way could not be done and has been said.
    Trouble,
}

fn search(options: Options) -> Result<Ending> {
    let tree = match &options.dir {
        Some(dir) => Tree::open(dir.clone())?,
        None => Tree::of_crate_sources(|name| std::env::var_os(name))?,
    };
    let survey = size_up(&tree)?;
    let (report, trouble) = in_far_memory(&options, &tree, &survey)?;
    if options.json {
        print(&format!("{}\n", report.json()))?;
    } else {
        note(&report.to_string());
    }
    if let Some(local) = report.local.filter(|local| local.matches != report.far.matches) {
        return Err(Failure::Differs { far: report.far.matches, local: local.matches });
    }
    Ok(match (trouble, report.far.matches) {
        (true, _) => Ending::Trouble,
        (false, 0) => Ending::NoMatch,
        (false, _) => Ending::Matched,
    })
}

fn size_up(tree: &Tree) -> Result<Survey> {
    struct Nobody;
    impl Reader for Nobody {
        fn text(&mut self, _bytes: &[u8]) -> Result<()> {
            Ok(())
        }
        fn end_file(&mut self, _path: &std::path::Path, _reading: &Reading) -> Result<()> {
            Ok(())
        }
    }
    let progress = Progress::spinner("sizing up the folder");
    let survey = tree.read(&mut Nobody)?;
    drop(progress);
    if survey.text_files == 0 {
        return Err(Failure::NoText {
            path: tree.root().to_owned(),
            files: survey.files(),
            not_text: survey.not_text,
            unreadable: survey.unreadable,
        });
    }
    Ok(survey)
}

/// Says what was not indexed. Returns whether that is trouble.
fn say_skipped(survey: &Survey) -> bool {
    if let Some(path) = &survey.first_not_text {
        say(&format!("{} skipped, not text (NUL bytes in it), such as {}", counted(survey.not_text, "file"), path.display()));
    }
    if let Some((path, cause)) = &survey.first_unreadable {
        let skipped = counted(survey.unreadable, "file");
        say(&format!("{skipped} skipped that can't be read, such as {}: {cause}", path.display()));
    }
    survey.unreadable > 0
}

fn in_far_memory(options: &Options, tree: &Tree, survey: &Survey) -> Result<(Report, bool)> {
    let memory = far_memory(options, survey)?;
    let store = FarStore::new(memory.clone());
    let mut job = Job::index(&store, tree, survey.text_bytes)?;
    let mut trouble = say_skipped(job.searched().survey());
    let (patterns, refused) = answer_all(options, &mut job)?;
    trouble |= refused;
    let mut report = Report {
        far: job.figures(),
        local: None,
        patterns: patterns.len(),
        local_budget_bytes: memory.stats().local_budget_bytes,
        transport: memory.transport(),
        embedded: ResidentBytes(memory.embedded_resident_bytes()),
        far_peak: ResidentBytes::peak(),
        local_peak: None,
    };
    drop(job);
    drop((store, memory));
    if options.all_local {
        let anew = ResidentBytes::forget_peak();
        report.local = Some(in_ordinary_memory(tree, survey, &patterns)?);
        report.local_peak = ResidentBytes::peak().filter(|_| anew);
    }
    Ok((report, trouble))
}

fn far_memory(options: &Options, survey: &Survey) -> Result<FarMemory> {
    let budget = match options.local_memory {
        Some(amount) => amount.bytes(survey.text_bytes),
        None => DEFAULT_LOCAL_MEMORY.bytes(survey.text_bytes).max(LEAST_DEFAULT_BYTES),
    };
    let budget = usize::try_from(budget)
        .map_err(|_| Failure::Setting(format!("--local-memory: {budget} bytes are more than this machine can address")))?;
    let mut builder = FarMemory::builder().local_budget(budget);
    if let Some(server) = &options.server {
        let has_scheme = ["auto:", "tcp:", "unix:", "rdma:", "embedded:"].iter().any(|scheme| server.starts_with(scheme));
        builder = builder.server(if has_scheme { server.clone() } else { format!("tcp:{server}") });
    }
    builder.build().map_err(|error| match error {
        // The library names its builder's methods; the person has used options.
        farptr::Error::Config(text) => {
            Failure::Setting(text.replace("Builder::local_budget", "--local-memory").replace("Builder::server", "--server"))
        }
        error => Failure::Store(error),
    })
}

fn in_ordinary_memory(tree: &Tree, survey: &Survey, patterns: &[Pattern]) -> Result<super::job::Figures> {
    let mut job = Job::index(&LocalStore, tree, survey.text_bytes)?;
    let mut printer = Printer::new(io::sink(), Form::Lines);
    for pattern in patterns {
        job.answer(pattern, &mut printer)?;
    }
    Ok(job.figures())
}

/// Answers the patterns, wherever they come from. Returns those that were answered, and whether one could not be.
fn answer_all<S: Store>(options: &Options, job: &mut Job<'_, S>) -> Result<(Vec<Pattern>, bool)> {
    match &options.patterns {
        Patterns::Given(patterns) => {
            let mut printer = Printer::new(io::stdout(), options.form);
            for pattern in patterns {
                answer(job, pattern, &mut printer)?;
            }
            Ok((patterns.clone(), false))
        }
        Patterns::Asked if io::stdin().is_terminal() => converse(options, job, None),
        Patterns::Asked => {
            let lines = standard_input();
            match lines.recv_timeout(SILENCE) {
                Ok(first) => converse(options, job, Some((first, lines))),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => demonstrate(options, job),
            }
        }
    }
}

/// Reads standard input line by line on a thread of its own, so that it can be given up on.
fn standard_input() -> Receiver<Vec<u8>> {
    let (sender, receiver) = sync_channel(0);
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            // A line that can't be read is the end; a receiver that is gone wants no more.
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Answers a pattern a line, with a prompt if there is nothing yet, until there are no more.
fn converse<S: Store>(
    options: &Options,
    job: &mut Job<'_, S>,
    so_far: Option<(Vec<u8>, Receiver<Vec<u8>>)>,
) -> Result<(Vec<Pattern>, bool)> {
    let prompt = so_far.is_none();
    let (mut next, lines) = match so_far {
        Some((first, lines)) => (Some(first), lines),
        None => (None, standard_input()),
    };
    if prompt {
        note("A pattern a line; Ctrl-D ends.");
    }
    let mut printer = Printer::new(io::stdout(), options.form);
    let (mut answered, mut trouble) = (Vec::new(), false);
    loop {
        if prompt {
            eprint!("codesearch> ");
        }
        let Some(line) = next.take().or_else(|| lines.recv().ok()) else { break };
        if line.is_empty() {
            continue;
        }
        match pattern_of(&line, options.syntax, options.case) {
            Ok(pattern) => {
                answer(job, &pattern, &mut printer)?;
                answered.push(pattern);
            }
            Err(failure) => {
                say(&failure.to_string());
                trouble |= !prompt;
            }
        }
    }
    if prompt {
        note("");
    }
    Ok((answered, trouble))
}

fn pattern_of(line: &[u8], syntax: Syntax, case: Case) -> Result<Pattern> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line)
        .map_err(|_| Failure::Setting("that pattern is not UTF-8; write bytes as (?-u)\\xFF".to_owned()))?;
    Pattern::new(text, syntax, case)
}

fn demonstrate<S: Store>(options: &Options, job: &mut Job<'_, S>) -> Result<(Vec<Pattern>, bool)> {
    note("No pattern given; these are for show. Your own: codesearch PATTERN [DIR]; codesearch --help");
    let form = if options.form == Form::Lines { Form::FirstLines(SHOWN) } else { options.form };
    let mut printer = Printer::new(io::stdout(), form);
    let patterns =
        DEMONSTRATION.iter().map(|text| Pattern::new(text, Syntax::Regex, Case::Sensitive)).collect::<Result<Vec<_>>>()?;
    for pattern in &patterns {
        answer(job, pattern, &mut printer)?;
    }
    Ok((patterns, false))
}

fn answer<S: Store, W: Write>(job: &mut Job<'_, S>, pattern: &Pattern, printer: &mut Printer<W>) -> Result<()> {
    let (outcome, took) = job.answer(pattern, printer)?;
    note(&format!(
        "'{}': {} in {}; {} of {} files read, {}",
        pattern.text(),
        counted(outcome.lines, "line"),
        counted(outcome.files, "file"),
        outcome.files_read,
        job.figures().files,
        time(took)
    ));
    Ok(())
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::Output)
}

/// Says on stderr what the person should know. There is nobody to tell if that fails.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "codesearch: {text}");
}

fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
