//! What the tests of `codesearch` share: trees, a store in small chunks, the system's grep, the program itself.
#![forbid(unsafe_code)]
#![expect(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses a part of this")]

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use farptr_examples::codesearch::index::Index;
use farptr_examples::codesearch::output::{Form, Printer};
use farptr_examples::codesearch::pattern::Pattern;
use farptr_examples::codesearch::search::search;
use farptr_examples::codesearch::store::{ByteLog, ChunkBytes, Store, StoreError, Usage};

/// A folder that is removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("codesearch-{name}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        fs::create_dir_all(&path).expect("create a folder for the test");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: impl AsRef<OsStr>, text: impl AsRef<[u8]>) {
        let path = self.0.join(Path::new(name.as_ref()));
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("create the folder of a file");
        fs::write(path, text).expect("write a file for the test");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left-over files in the temporary folder are no reason for a test to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A small generator of pseudo-random numbers (SplitMix64), so that trees are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

const WORDS: [&str; 28] = [
    "fn",
    "unsafe",
    "impl",
    "struct",
    "let",
    "mut",
    "return",
    "match",
    "error",
    "Error",
    "ERROR",
    "buffer",
    "slab",
    "segment",
    "0x7fff",
    "42",
    "x",
    "",
    "foo.bar",
    "foo_bar()",
    "[a-z]+",
    "a\\b",
    "naïve",
    "straße",
    "Ünïcode",
    "日本語",
    "Kelvin \u{212a}",
    "ſet",
];

/// Lines of words, UTF-8, about `bytes` long.
pub fn prose(random: &mut Random, bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        for _ in 0..random.below(9) {
            text.push_str(random.pick(&WORDS));
            text.push_str(random.pick(&[" ", "\t", ";", "::", "", ", "]));
        }
        text.push_str(random.pick(&["\n", "\n", "\n", "\r\n", "\n\n"]));
    }
    text
}

/// A tree of text that is all UTF-8, with files that are odd in every other way.
pub fn utf8_tree(name: &str) -> Folder {
    let folder = Folder::new(name);
    let mut random = Random(7);
    for number in 0..60 {
        let bytes = random.below(6000);
        folder.write(
            format!("{}/file {number}.rs", random.pick(&["src", "src/deep/er", "a:b", ".hidden"])),
            prose(&mut random, bytes),
        );
    }
    folder.write("big.txt", prose(&mut random, 300_000));
    folder.write("empty", "");
    folder.write("one line end", "\n");
    folder.write("no line end at all", "unsafe error");
    folder.write("last line open", "one\ntwo\nerror without end");
    folder.write("crlf", "error\r\nno\r\nerror at the end\r\n");
    folder.write("mark", "\u{feff}fn after a byte order mark\n");
    folder.write("long line", format!("{} error {}\nfn x\n", "y".repeat(200_000), "z ".repeat(50_000)));
    folder.write(".dot", "fn hidden error\n");
    folder.write("nul first", b"\0error\nfn\n");
    folder.write("nul later", [b"fn error\n".repeat(100), b"\0".to_vec()].concat());
    std::os::unix::fs::symlink("src", folder.path().join("link to a folder")).expect("make a link");
    std::os::unix::fs::symlink("crlf", folder.path().join("link to a file")).expect("make a link");
    std::os::unix::fs::symlink("nowhere", folder.path().join("link to nothing")).expect("make a link");
    folder
}

/// A tree with text that is not UTF-8, in contents and in names.
pub fn bytes_tree(name: &str) -> Folder {
    let folder = Folder::new(name);
    let mut random = Random(11);
    folder.write("latin1", b"caf\xe9 error\nna\xefve\nfn caf\xe9\xe9\n");
    folder.write(OsString::from_vec(b"name \xff\xfe.txt".to_vec()), b"error in a file with an odd name\n");
    folder.write("broken utf-8", b"fn \xc3\n\xa9 error\n\xf0\x9f\x98 x\n\xed\xa0\x80\n");
    for number in 0..20 {
        // Any byte but NUL, with line ends often enough.
        let bytes: Vec<u8> = (0..3000)
            .map(|_| match random.below(30) {
                0 => b'\n',
                1..10 => *random.pick(&[b"e", b"r", b"o", b"f", b"n", b" "]).first().expect("one byte"),
                _ => 1 + random.below(255) as u8,
            })
            .collect();
        folder.write(format!("noise {number}"), bytes);
    }
    folder
}

/// What the system's grep prints for `arguments`, sorted by line; `None`, said loudly, where there is no GNU grep.
pub fn grep(locale: &str, folder: &Path, arguments: &[&str]) -> Option<Vec<Vec<u8>>> {
    let output = Command::new("grep").env("LC_ALL", locale).arg("-rnI").args(arguments).arg("--").arg(folder).output();
    match output {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert_ne!(output.status.code(), Some(2), "grep {arguments:?}: {said}");
            Some(sorted_lines(&output.stdout))
        }
        Err(cause) => {
            eprintln!("SKIPPED: can't run grep to compare with: {cause}; install GNU grep");
            None
        }
    }
}

/// The lines of `text` in order.
pub fn sorted_lines(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    lines.sort();
    lines
}

/// What a search prints, sorted by line.
pub fn found<S: Store>(index: &Index<S>, pattern: &Pattern) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut printer = Printer::new(&mut out, Form::Lines);
    search(index, pattern, &mut printer).expect("search");
    printer.flush().expect("write to memory");
    drop(printer);
    sorted_lines(&out)
}

/// Fails with the first lines that differ rather than with megabytes of them.
pub fn assert_same_lines(what: &str, ours: &[Vec<u8>], theirs: &[Vec<u8>]) {
    let show = |line: Option<&Vec<u8>>| line.map(|line| String::from_utf8_lossy(&line[..line.len().min(300)]).into_owned());
    if let Some(at) = (0..ours.len().max(theirs.len())).find(|&at| ours.get(at) != theirs.get(at)) {
        panic!(
            "{what}: {} lines, grep {}; the first that differ:\nours {:?}\ngrep {:?}",
            ours.len(),
            theirs.len(),
            show(ours.get(at)),
            show(theirs.get(at))
        );
    }
}

/// Ordinary memory that shows its logs in slices that end at chunks, as far memory does, and counts them.
#[derive(Default)]
pub struct ChunkedStore {
    slices: Rc<Cell<u64>>,
}

pub struct ChunkedLog {
    bytes: Vec<u8>,
    chunk: usize,
    slices: Rc<Cell<u64>>,
}

impl Store for ChunkedStore {
    type Log = ChunkedLog;

    fn log(&self, chunk: ChunkBytes) -> Result<ChunkedLog, StoreError> {
        // A chunk that is no power of two, so that blocks and chunks never line up by luck.
        Ok(ChunkedLog { bytes: Vec::new(), chunk: chunk.0 / 3 + 1, slices: self.slices.clone() })
    }

    fn usage(&self) -> Usage {
        Usage { accesses: self.slices.get(), ..Usage::default() }
    }
}

impl ByteLog for ChunkedLog {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, len: usize) -> Result<(), StoreError> {
        self.bytes.truncate(len);
        Ok(())
    }

    fn read(&self, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min((start / self.chunk + 1) * self.chunk);
            self.slices.set(self.slices.get() + 1);
            visit(&self.bytes[start..end]);
            start = end;
        }
        Ok(())
    }
}

/// Builds target `name` in the profile of this test, and says where it is. (cargo tells tests the path of a
/// package's binaries, but not of its examples, nor of other packages' binaries.)
///
/// The selection is that of the whole suite, which has built it by then: one package alone has other features, and is built from cold.
pub fn built(kind: &str, name: &str) -> Result<PathBuf, String> {
    let test = std::env::current_exe().map_err(|cause| cause.to_string())?;
    let profile = test.parent().and_then(Path::parent).ok_or("the test is not in a target folder")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--no-run", "--quiet", "--offline", "--workspace", kind, name]).arg("--target-dir");
    cargo.arg(profile.parent().ok_or("the test is not in a target folder")?);
    if profile.file_name() == Some(OsStr::new("release")) {
        cargo.arg("--release");
    }
    let output = cargo.output().map_err(|cause| cause.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let folder = if kind == "--example" { profile.join("examples") } else { profile.to_owned() };
    Ok(folder.join(name))
}

/// The program.
pub fn codesearch() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| built("--example", "codesearch").expect("build codesearch"));
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs the program with `input` on its standard input.
pub fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run codesearch");
    child.stdin.take().expect("a pipe").write_all(input).expect("write to codesearch");
    child.wait_with_output().expect("wait for codesearch")
}
