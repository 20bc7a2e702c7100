//! farbench as a program: every experiment, with next to no data.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

fn farbench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_farbench"))
}

#[test]
fn every_experiment_runs_and_the_report_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = farbench().args(["all", "--smoke", "--json", "--report"]).arg(folder.path()).output().expect("farbench");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let of = |kind: &'static str| lines.iter().filter(move |line| line["kind"] == kind);
    let names: Vec<_> = of("experiment").map(|line| line["experiment"].as_str().expect("a name")).collect();
    let listed = farbench().arg("list").output().expect("farbench");
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), names.len());
    for experiment in of("experiment") {
        let name = &experiment["experiment"];
        eprintln!("{name}: {} s", experiment["seconds"]);
        assert!(of("number").any(|number| number["experiment"] == *name), "{name} found nothing out");
    }
    for number in of("number") {
        assert!(number["median"].as_f64().is_some_and(|median| median.is_finite() && median >= 0.0), "{number}");
    }
    let page = std::fs::read_to_string(folder.path().join("index.html")).expect("a page");
    assert!(names.iter().all(|name| page.contains(&format!("<h2 id=\"{name}\""))));
    assert!(folder.path().join("table.md").exists());
}

/// What is measured under a memory limit is this program in another role.
#[test]
fn a_subject_works_when_asked_and_ends_with_its_stdin() {
    let load = json!({"skew": 0.99, "reads": 50, "draws": 100});
    for program in [json!({"map": {"words": 8, "count": 100, "load": load}}), json!({"pages": {"bytes": 1 << 16}})] {
        let mut command = farbench();
        command.arg("--subject").arg(program.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("farbench");
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut ask = |line: &str| {
            writeln!(stdin, "{line}").expect("it listens");
            lines.next().expect("an answer").expect("text")
        };
        assert_eq!(ask("go"), "ready");
        assert_eq!(ask(&load.to_string()), "ready");
        assert!(ask("0.001").parse::<f64>().expect("a rate") > 0.0);
        drop(stdin);
        assert!(child.wait().expect("an end").success());
    }
}
