//! The same results from far memory, with little local memory, from this process and from a server, and when it goes away.
#![forbid(unsafe_code)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use common::{Folder, Random, assert_same_lines, built, codesearch, grep, prose, sorted_lines};

/// Text in the large tree, twenty times the budget it is searched with.
const TEXT_BYTES: usize = 40 << 20;
const BUDGET: &str = "2MiB";
const PATTERNS: [&str; 7] =
    ["segment::buffer", "^error.*slab$", "unsafe|naïve;", "(foo|bar)_?bar", "日本語,.*Kelvin", "42$", "no such text"];

/// Written once for the tests that run together, and removed with the last of them.
fn large_tree() -> Arc<Folder> {
    static TREE: Mutex<Weak<Folder>> = Mutex::new(Weak::new());
    let mut tree = TREE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = tree.upgrade() {
        return folder;
    }
    let folder = Folder::new("large");
    let mut random = Random(23);
    let (mut bytes, mut number) = (0, 0);
    while bytes < TEXT_BYTES {
        // Many small files and some that are larger than the whole budget.
        let size = if number % 200 == 7 { 3 << 20 } else { random.below(40_000) };
        let text = prose(&mut random, size);
        bytes += text.len();
        folder.write(format!("{}/{number}", number % 17), text);
        number += 1;
    }
    let folder = Arc::new(folder);
    *tree = Arc::downgrade(&folder);
    folder
}

/// The tests of this file one at a time: each keeps a searching process, its evacuator and a server busy, and several of them on few
/// cores take longer together than one after the other.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A memory server, ended with the test.
struct Server {
    child: Child,
    address: String,
    /// How programs on this machine reach it.
    socket: String,
    _folder: Folder,
}

impl Server {
    /// Starts one; `None`, said loudly, if it can't be built.
    fn start() -> Option<Server> {
        let program = match built("--bin", "farmemd") {
            Ok(program) => program,
            Err(why) => {
                eprintln!("SKIPPED: can't build farmemd: {why}");
                return None;
            }
        };
        let folder = Folder::new("server");
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--capacity", "256MiB", "--unix"])
            .arg(folder.path().join("socket"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("run farmemd");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, receiver) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let line = receiver.recv_timeout(Duration::from_secs(20)).expect("farmemd says that it is ready");
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("tcp:")).expect("its address").to_owned();
        let socket = line.split_whitespace().find(|word| word.starts_with("unix:")).expect("its socket").to_owned();
        Some(Server { child, address, socket, _folder: folder })
    }

    fn kill(&mut self) {
        self.child.kill().expect("kill farmemd");
        self.child.wait().expect("farmemd ends");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed by the test already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn search(arguments: &[&str], folder: &Path) -> Output {
    let mut command = codesearch();
    for pattern in PATTERNS {
        command.args(["-e", pattern]);
    }
    command.args(arguments).arg(folder).output().expect("run codesearch")
}

fn assert_finds_what_grep_finds(output: &Output, folder: &Path) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let mut theirs = Vec::new();
    for pattern in PATTERNS {
        let Some(lines) = grep("C.UTF-8", folder, &["-E", "-e", pattern]) else { return };
        theirs.extend(lines);
    }
    theirs.sort();
    assert_same_lines("all patterns", &sorted_lines(&output.stdout), &theirs);
}

fn figures(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn a_budget_of_a_twentieth_gives_what_grep_gives() {
    let _turn = turn();
    let tree = large_tree();
    assert_finds_what_grep_finds(&search(&["--local-memory", BUDGET], tree.path()), tree.path());
}

#[test]
fn a_server_gives_what_grep_gives() {
    let _turn = turn();
    let Some(server) = Server::start() else { return };
    let tree = large_tree();
    for address in [&server.address, &server.socket] {
        let arguments = ["--local-memory", BUDGET, "--no-all-local", "--server", address];
        assert_finds_what_grep_finds(&search(&arguments, tree.path()), tree.path());
    }
}

#[test]
fn figures_of_a_small_budget_are_what_they_are_called() {
    let _turn = turn();
    let Some(server) = Server::start() else { return };
    let tree = large_tree();
    let figures =
        figures(&search(&["--json", "--local-memory", "10%", "--no-all-local", "--server", &server.address], tree.path()));
    let number = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name} is a number: {figures}"));
    assert!((0.099..0.101).contains(&(number("local_budget_bytes") / number("bytes_indexed"))), "{figures}");
    assert!(number("far_bytes") > 0.8 * number("bytes_indexed"), "most of the text is far: {figures}");
    assert!(number("hit_ratio") > 0.0 && number("hit_ratio") < 1.0, "{figures}");
    // The server's memory is not this process's: what it holds is its budget, its own buffers and its code.
    assert!(number("peak_rss_bytes") < number("local_budget_bytes") + f64::from(32 << 20), "{figures}");
    assert!(figures["transport"].as_str().is_some_and(|transport| transport.contains(&server.address)), "{figures}");
}

#[test]
fn budgets_that_are_too_small_are_one_line_and_status_2() {
    let folder = Folder::new("budget");
    folder.write("a", "fn\n");
    folder.write("not text", "\0");
    for budget in ["1", "4KiB", "50%"] {
        let output = codesearch().args(["--local-memory", budget, "fn"]).arg(folder.path()).output().expect("run codesearch");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{budget}: {said}");
        assert!(said.starts_with("codesearch: --local-memory: ") && said.lines().count() == 1, "{budget}: {said}");
    }
}

#[test]
fn a_server_that_is_not_there_is_one_line_and_status_2() {
    let folder = Folder::new("unreachable");
    folder.write("a", "fn\n");
    folder.write("not text", "\0");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").to_string();
    for server in [free.as_str(), "nowhere", "127.0.0.1:99999", "127.0.0.1:"] {
        let start = Instant::now();
        let output = codesearch().args(["--server", server, "fn"]).arg(folder.path()).output().expect("run codesearch");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{server}: {said}");
        assert!(said.starts_with("codesearch: ") && said.lines().count() == 1, "{server}: {said}");
        assert!(start.elapsed() < Duration::from_secs(20), "{server}");
    }
}

#[test]
fn a_server_that_dies_ends_the_search_with_an_error_and_keeps_what_was_found() {
    let _turn = turn();
    let Some(mut server) = Server::start() else { return };
    let tree = large_tree();
    let mut child = codesearch()
        .args(["--server", &server.address, "--local-memory", BUDGET, "--dir"])
        .arg(tree.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run codesearch");
    let mut input = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    input.write_all(b"segment::buffer\n").expect("ask");
    let mut first = String::new();
    stdout.read_line(&mut first).expect("an answer");
    assert!(first.contains("segment::buffer"), "{first}");
    server.kill();
    let start = Instant::now();
    // The first answer may still have been under way; then the program has noticed by now and no longer listens.
    let _ = input.write_all(b"slab\n");
    let rest = thread::spawn(move || {
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).map(|_| rest)
    });
    let output = child.wait_with_output().expect("wait for codesearch");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.lines().any(|line| line.starts_with("codesearch: ") && line.contains(&server.address)), "{said}");
    assert!(start.elapsed() < Duration::from_secs(60), "within the library's timeouts");
    let rest = rest.join().expect("the reader ends").expect("what was printed can be read");
    let whole = rest.split_inclusive(|&byte| byte == b'\n').all(|line| line.ends_with(b"\n"));
    assert!(whole, "what was found before is printed, in whole lines");
}
