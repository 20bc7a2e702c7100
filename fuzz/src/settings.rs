//! Settings: the text of a `farptr.toml`, environment variables, and sizes as `farmemd` reads them.
//!
//! What is taken is within its limits, and written down plainly it is taken again as the same. What isn't is an error of one line that names its place. A
//! size of digits alone is the number they mean.
#![forbid(unsafe_code)]

use farptr::fuzzing::{Checked, settings};
use farptr_runtime::bytes::{format_size, parse_size};
use std::time::Duration;

/// Memory and cores of the machine that the settings are for.
const MEMORY: u64 = 1 << 34;
const CORES: usize = 4;

/// The variables, in the order in which an input gives them.
const VARIABLES: [&str; 5] = ["FARPTR_LOCAL_BUDGET", "FARPTR_SERVERS", "FARPTR_SHARDS", "FARPTR_FAR_CAPACITY", "FARPTR_TIMEOUT"];

/// Runs the target on one input: a file and then variables, each ended by a zero byte, which neither can hold.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let file = parts.next().unwrap_or_default();
    let values: Vec<&str> = parts.collect();
    let env = |name: &str| {
        let index = VARIABLES.iter().position(|variable| *variable == name)?;
        values.get(index).filter(|value| !value.is_empty()).map(|value| (*value).to_owned())
    };
    judge(file, &env);
    values.iter().copied().chain([file]).for_each(size);
}

fn judge(file: &str, env: &dyn Fn(&str) -> Option<String>) {
    for memory in [Some(MEMORY), None] {
        match settings(file, env, memory, CORES) {
            Ok(found) => {
                check(&found, memory);
                let written = settings(&as_file(&found), &|_| None, memory, CORES);
                assert_eq!(written.expect("what was taken is taken again"), found);
                let written = settings("shards = 0", &|name| Some(as_variable(&found, name)), memory, CORES);
                assert_eq!(written.expect("what was taken is taken again"), found);
            }
            Err(error) => explains(file, &error.to_string()),
        }
    }
}

/// What is taken is within its limits.
fn check(found: &Checked, memory: Option<u64>) {
    assert!(found.local_budget >= 1 << 20 && memory.is_none_or(|memory| found.local_budget as u64 <= memory), "{found:?}");
    assert!(!found.servers.is_empty() && found.shards <= CORES, "{found:?}");
    assert!(found.servers.iter().enumerate().all(|(i, server)| !found.servers[..i].contains(server)), "{found:?}");
    for server in found.servers.iter().filter(|server| *server != "embedded:") {
        assert!(!server.chars().any(|c| c.is_control() || c == ','), "{server:?}");
        if let Some(path) = server.strip_prefix("unix:") {
            assert!(!path.is_empty() && path.len() < 108, "{server:?}");
            continue;
        }
        let rest = ["auto:", "tcp:", "rdma:"].iter().find_map(|scheme| server.strip_prefix(scheme)).expect("a transport");
        let (host, port) = rest.split('@').next().and_then(|rest| rest.rsplit_once(':')).expect("an address");
        assert!(!host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0), "{server}");
        assert!(!server.chars().any(char::is_whitespace), "{server:?}");
    }
    assert!(found.far_capacity.is_none_or(|bytes| (1..=1 << 50).contains(&bytes)), "{found:?}");
    assert!((Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&found.timeout), "{found:?}");
}

/// An error is one line that says where the mistake is: in a line that the file has, or in a variable.
fn explains(file: &str, error: &str) {
    assert!(!error.contains('\n'), "{error:?}");
    let place = error.strip_prefix("farptr.toml:").map(|rest| rest.split(':').next().and_then(|line| line.parse().ok()));
    match place {
        Some(line) => assert!(line.is_some_and(|line: usize| (1..=file.split('\n').count()).contains(&line)), "{error}"),
        None => assert!(VARIABLES.iter().any(|name| error.contains(name)), "{error}"),
    }
}

fn as_file(found: &Checked) -> String {
    let servers = toml::Value::from(found.servers.clone());
    let far = found.far_capacity.map_or(String::new(), |bytes| format!("far_capacity = {bytes}\n"));
    let (budget, shards, nanos) = (found.local_budget, found.shards, found.timeout.as_nanos());
    format!("local_budget = {budget}\nservers = {servers}\nshards = {shards}\n{far}timeout = \"{nanos}ns\"\n")
}

fn as_variable(found: &Checked, name: &str) -> String {
    match VARIABLES.iter().position(|variable| *variable == name) {
        Some(0) => found.local_budget.to_string(),
        Some(1) => found.servers.join(","),
        Some(2) => found.shards.to_string(),
        Some(3) => found.far_capacity.map_or(String::new(), |bytes| bytes.to_string()),
        _ => format!("{}ns", found.timeout.as_nanos()),
    }
}

fn size(text: &str) {
    let plain = text.trim();
    match parse_size(text) {
        Ok(bytes) => {
            assert_eq!(parse_size(&bytes.to_string()), Ok(bytes));
            assert!(!format_size(bytes).is_empty());
        }
        Err(problem) => assert!(problem.contains("64MiB") && !problem.contains('\n')),
    }
    if !plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest number stands for what is too large.
        assert_eq!(parse_size(text).ok(), plain.parse::<u64>().ok().filter(|bytes| *bytes != u64::MAX), "{plain}");
    }
}
