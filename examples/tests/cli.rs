//! The command line: what goes wrong is said in one line with status 2, and figures are what they are called.
#![forbid(unsafe_code)]

mod common;

use std::process::{Output, Stdio};

use common::{Folder, codesearch, sorted_lines, with_input};

fn sample() -> Folder {
    let folder = Folder::new("sample");
    folder.write("a.rs", "fn one() {}\nfn two() {}\nlet x = 1;\n");
    folder.write("b/c.rs", "struct Three;\nfn three() {}\n");
    folder.write("b/binary", b"fn\0");
    folder
}

fn run(arguments: &[&str], folder: &Folder) -> Output {
    codesearch().args(arguments).arg("--dir").arg(folder.path()).output().expect("run codesearch")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn status_is_that_of_grep() {
    let folder = sample();
    assert_eq!(run(&["fn"], &folder).status.code(), Some(0));
    assert_eq!(run(&["no such text"], &folder).status.code(), Some(1));
    assert_eq!(run(&["fn("], &folder).status.code(), Some(2));
}

#[test]
fn bad_input_is_one_line_and_status_2() {
    let folder = sample();
    let dir = folder.path().to_str().expect("the temporary folder has a plain name");
    let file = &format!("{dir}/a.rs");
    let cases: &[(&[&str], &str)] = &[
        (&["fn", "/no/such/folder"], "/no/such/folder: No such file or directory; give a folder"),
        (&["fn", file], "Not a directory"),
        (&["fn", "--dir", dir, dir], "two folders"),
        (&[dir], "is a folder: write --dir"),
        (&["-e", "a", "b", "c"], "one argument too many"),
        (&["fn(", dir], "invalid regex 'fn(': unclosed group (at character 3)"),
        (&["-e", "a", "-e", "[z", dir], "invalid regex '[z': unclosed character class"),
        (&["(?P<n>a)(?P<n>b)", dir], "duplicate capture group name"),
        (&["a{999999999}", dir], "invalid regex"),
        (&[r"\w{5000}{5000}", dir], "invalid regex"),
        (&["--local-memory", "lots", "fn", dir], "'lots' is not an amount of memory; write a size such as 64MiB"),
        (&["--local-memory", "0", "fn", dir], "too little"),
        (&["--local-memory", "-5MiB", "fn", dir], "is not an amount of memory"),
        (&["--local-memory", "0%", "fn", dir], "is not between"),
        (&["--local-memory", "-3%", "fn", dir], "is not between"),
        (&["--local-memory", "nan%", "fn", dir], "is not an amount of memory"),
        (&["--local-memory", "99999999999GiB", "fn", dir], "more memory than a program can address"),
        (&["--colour", "fn", dir], "unexpected argument '--colour'"),
        (&["-f", "/no/such/file", dir], "can't read patterns from /no/such/file"),
    ];
    for (arguments, expected) in cases {
        let output = codesearch().args(*arguments).output().expect("run codesearch");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_folder_without_text_is_an_error() {
    let folder = Folder::new("no-text");
    folder.write("binary", b"\0\0");
    let output = run(&["x"], &folder);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no text to index in it (1 files, 1 of them not text, 0 unreadable)"), "{}", said(&output));
}

#[test]
fn an_unreadable_file_is_skipped_said_and_status_2() {
    use std::os::unix::fs::PermissionsExt;
    let folder = sample();
    let hidden = folder.path().join("b/hidden.rs");
    std::fs::write(&hidden, "fn hidden() {}\n").expect("write a file");
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o000)).expect("forbid a file");
    if std::fs::read(&hidden).is_ok() {
        eprintln!("SKIPPED: this user may read every file; run as another than root to test unreadable ones");
        return;
    }
    let output = run(&["fn"], &folder);
    assert_eq!(output.status.code(), Some(2), "as grep: {}", said(&output));
    assert_eq!(sorted_lines(&output.stdout).len(), 3, "the others are searched");
    assert!(said(&output).contains("1 file skipped that can't be read"), "{}", said(&output));
}

#[test]
fn a_file_that_fails_while_it_is_read_is_skipped_said_and_status_2() {
    // A regular file that even root can't read: the memory of a process, at address 0.
    let folder = sample();
    let output = codesearch().args(["-F", "Name:", "/proc/self/task"]).output().expect("run codesearch");
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("that can't be read, such as /proc/self/task/"), "{text}");
    drop(folder);
}

#[test]
fn json_is_one_object_and_nothing_else() {
    let folder = sample();
    let output = run(&["--json", "-e", "fn", "-e", "struct|let"], &folder);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "all_local_index_seconds",
        "all_local_query_seconds",
        "bytes_indexed",
        "far_bytes",
        "files",
        "hit_ratio",
        "index_seconds",
        "local_budget_bytes",
        "matches",
        "peak_rss_bytes",
        "query_seconds",
        "transport",
    ];
    assert_eq!(keys, expected);
    assert_eq!(object["matches"], 3 + 2);
    assert_eq!(object["files"], 2);
    assert_eq!(object["bytes_indexed"], 35 + 28);
    assert!(object["all_local_index_seconds"].is_f64());
    assert!(object["peak_rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
}

#[test]
fn json_without_the_comparison_says_null() {
    let output = run(&["--json", "--no-all-local", "nothing"], &sample());
    assert_eq!(output.status.code(), Some(1));
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert!(object["all_local_index_seconds"].is_null() && object["all_local_query_seconds"].is_null());
    assert_eq!(object["matches"], 0);
}

#[test]
fn patterns_come_from_a_file_or_standard_input() {
    let folder = sample();
    let list = Folder::new("patterns");
    list.write("list", "fn t\nx = 1\n");
    let from_file = codesearch().arg("-f").arg(list.path().join("list")).arg(folder.path()).output().expect("run codesearch");
    let mut command = codesearch();
    command.args(["-f", "-"]).arg(folder.path());
    let from_input = with_input(command, b"fn t\nx = 1\n");
    let mut command = codesearch();
    command.arg("--dir").arg(folder.path());
    let asked = with_input(command, b"fn t\n\nx = 1");
    for output in [from_file, from_input, asked] {
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(sorted_lines(&output.stdout).len(), 3, "{}", said(&output));
    }
}

#[test]
fn a_wrong_line_of_standard_input_does_not_lose_the_others() {
    let folder = sample();
    let mut command = codesearch();
    command.arg("--dir").arg(folder.path());
    let output = with_input(command, b"fn t\n(\n\xff\xff\nx = 1\n");
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(sorted_lines(&output.stdout).len(), 3);
    assert!(said(&output).contains("invalid regex '('") && said(&output).contains("not UTF-8"), "{}", said(&output));
}

#[test]
fn without_any_pattern_a_demonstration_runs() {
    let folder = sample();
    folder.write("demo.rs", "unsafe impl Send for X {}\n".repeat(9));
    let output = run(&[], &folder);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(sorted_lines(&output.stdout).len(), 3, "only the first lines are shown");
    assert!(said(&output).contains("'unsafe impl': 9 lines in 1 file;"), "{}", said(&output));
}

#[test]
fn a_silent_standard_input_is_not_waited_for() {
    let folder = sample();
    let child =
        codesearch().arg("--dir").arg(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("run codesearch");
    // Held open, and nothing is ever written to it.
    let input = child.stdin.take();
    let output = child.wait_with_output().expect("wait for codesearch");
    drop(input);
    assert!(said(&output).contains("No pattern given"), "{}", said(&output));
}

#[test]
fn counts_are_for_each_file() {
    let folder = sample();
    let output = run(&["-c", "fn"], &folder);
    let expected = [(folder.path().join("a.rs"), 2), (folder.path().join("b/c.rs"), 1)];
    let expected: String = expected.iter().map(|(path, count)| format!("{}:{count}\n", path.display())).collect();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn literals_and_case() {
    let folder = sample();
    assert_eq!(sorted_lines(&run(&["-F", "one()"], &folder).stdout).len(), 1);
    assert_eq!(sorted_lines(&run(&["-iF", "THREE"], &folder).stdout).len(), 2);
    assert_eq!(sorted_lines(&run(&["-i", "^STRUCT|ONE"], &folder).stdout).len(), 2);
    assert_eq!(sorted_lines(&run(&["-e", "-e", "-e", "x"], &folder).stdout).len(), 1, "-e takes a pattern that begins with -");
}

#[test]
fn results_that_can_not_be_written_are_an_error_and_a_closed_pipe_is_not() {
    let folder = sample();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full");
    let mut command = codesearch();
    let output = command.arg("fn").arg(folder.path()).stdout(full).stderr(Stdio::piped()).spawn();
    let output = output.and_then(|child| child.wait_with_output()).expect("run codesearch");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("can't write the results: No space left"), "{}", said(&output));

    folder.write("many.rs", "fn f() {}\n".repeat(100_000));
    let mut child = codesearch().arg("fn").arg(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("run");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("wait for codesearch");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!said(&output).contains("can't write"), "{}", said(&output));
}

#[test]
fn help_teaches() {
    let output = codesearch().arg("--help").output().expect("run codesearch");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0));
    for expected in ["Examples:", "--local-memory", "25%", "Exit status", "codesearch 'unsafe impl'"] {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}
