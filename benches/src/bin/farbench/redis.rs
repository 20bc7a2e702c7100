//! A server of values by key, which is redis: no far memory, but what a program does with data that is too much for it. All of the data is in another process always.
//!
//! The server is started without persistence and ends with this; on this machine, by a Unix socket or by TCP on loopback.

use crate::Outcome;
use crate::server::{Started, spawn};
use crate::store::Store;
use crate::undo::{Folder, SetUp, Undo};
use farptr_benches::random::object;
use redis::{Client, Cmd, Connection, Pipeline};
use std::fmt;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests that are sent together where many are.
const TOGETHER: usize = 64;

/// A way to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Unix,
    Loopback,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Unix => "Unix socket",
            Way::Loopback => "loopback",
        })
    }
}

/// A server that runs.
pub(crate) struct Redis {
    unix: Client,
    loopback: Client,
    /// Words of the values that it holds, and how many.
    holds: (usize, usize),
    _end: SetUp,
    _folder: Folder,
}

impl Redis {
    /// Starts one, if there is a program for it.
    pub(crate) fn start(undo: &Undo) -> Outcome<Self> {
        let folder = undo.folder()?;
        let socket = folder.path.join("socket");
        // Free now; whoever takes it before the server does has it fail to start.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--bind", "127.0.0.1"]);
        command.args(["--port", &port.to_string(), "--unixsocket"]).arg(&socket).arg("--dir").arg(&folder.path);
        let log = folder.path.join("log");
        command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(Stdio::null());
        let Started { end, .. } = spawn(&mut command, undo)
            .map_err(|error| format!("no redis-server (apt install redis-server, or whatever brings it here): {error}"))?;
        let unix = Client::open(format!("redis+unix://{}", socket.display()))?;
        let loopback = Client::open(format!("redis://127.0.0.1:{port}"))?;
        let redis = Redis { unix, loopback, holds: (0, 0), _end: end, _folder: folder };
        let until = Instant::now() + PATIENCE;
        while let Err(error) = redis.connect(Way::Unix) {
            if Instant::now() > until {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("redis-server does not start: {error}; {}", said.trim()).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(redis)
    }

    fn connect(&self, way: Way) -> Outcome<Connection> {
        let client = if way == Way::Unix { &self.unix } else { &self.loopback };
        let mut connection = client.get_connection()?;
        // A socket file is there a little before the server answers.
        redis::cmd("PING").exec(&mut connection)?;
        Ok(connection)
    }

    /// Has it hold `count` values. Those that were changed meanwhile stay so: their last words are as they were.
    pub(crate) fn fill<const N: usize>(&mut self, count: usize) -> Outcome {
        if self.holds == (N, count) {
            return Ok(());
        }
        let mut connection = self.connect(Way::Unix)?;
        redis::cmd("FLUSHALL").arg("SYNC").exec(&mut connection)?;
        self.holds = (0, 0);
        for from in (0..count as u64).step_by(1024) {
            let mut pipeline = Pipeline::new();
            (from..(from + 1024).min(count as u64)).for_each(|key| _ = pipeline.add_command(set::<N>(key)).ignore());
            pipeline.exec(&mut connection)?;
        }
        self.holds = (N, count);
        Ok(())
    }

    /// Its values, one request at a time.
    pub(crate) fn singly<const N: usize>(&self, way: Way) -> Outcome<Singly<N>> {
        Ok(Singly(self.connect(way)?))
    }

    /// Its values, many requests at a time.
    pub(crate) fn together<const N: usize>(&self, way: Way) -> Outcome<Together<N>> {
        Ok(Together { connection: self.connect(way)?, pipeline: Pipeline::new(), reads: Vec::new() })
    }
}

/// Values have keys of 8 bytes, as everywhere.
fn key_of(key: u64) -> [u8; 8] {
    key.to_le_bytes()
}

fn set<const N: usize>(key: u64) -> Cmd {
    let bytes: Vec<u8> = object::<N>(key).iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut command = redis::cmd("SET");
    command.arg(&key_of(key)[..]).arg(bytes);
    command
}

fn get(key: u32) -> Cmd {
    let mut command = redis::cmd("GET");
    command.arg(&key_of(u64::from(key))[..]);
    command
}

/// Changes a value's first word.
fn change(key: u32, to: u64) -> Cmd {
    let mut command = redis::cmd("SETRANGE");
    command.arg(&key_of(u64::from(key))[..]).arg(0).arg(&to.to_le_bytes()[..]);
    command
}

/// The last word of a value.
fn last<const N: usize>(value: &[u8]) -> Outcome<u64> {
    if value.len() != N * 8 {
        return Err(format!("a value of {} bytes, not of {}", value.len(), N * 8).into());
    }
    let word = value.last_chunk().ok_or("a value without a word")?;
    Ok(u64::from_le_bytes(*word))
}

/// Sends a request, and waits for its answer.
pub(crate) struct Singly<const N: usize>(Connection);

impl<const N: usize> Store for Singly<N> {
    fn read(&mut self, key: u32) -> Outcome<Option<u64>> {
        let value: Option<Vec<u8>> = get(key).query(&mut self.0)?;
        value.map(|value| last::<N>(&value)).transpose()
    }

    fn update(&mut self, key: u32, to: u64) -> Outcome {
        Ok(change(key, to).exec(&mut self.0)?)
    }

    fn insert(&mut self, key: u32) -> Outcome {
        Ok(set::<N>(u64::from(key)).exec(&mut self.0)?)
    }
}

/// Sends requests when there are many: as many clients as that would who each wait for one answer. So a read says what the value must be, and is
/// checked when it comes.
pub(crate) struct Together<const N: usize> {
    connection: Connection,
    pipeline: Pipeline,
    /// Keys whose values will come, in their order.
    reads: Vec<u32>,
}

impl<const N: usize> Together<N> {
    fn add(&mut self, command: Cmd) -> Outcome {
        self.pipeline.add_command(command);
        if self.pipeline.len() < TOGETHER {
            return Ok(());
        }
        let answers: Vec<redis::Value> = self.pipeline.query(&mut self.connection)?;
        self.pipeline.clear();
        // Updates and inserts are answered by numbers and words.
        let mut values = answers.into_iter().filter_map(|answer| match answer {
            redis::Value::BulkString(value) => Some(Some(value)),
            redis::Value::Nil => Some(None),
            _ => None,
        });
        for key in self.reads.drain(..) {
            let value = values.next().flatten().ok_or_else(|| format!("key {key} has no value"))?;
            if last::<N>(&value)? != u64::from(key) {
                return Err(format!("key {key} has the value of another").into());
            }
        }
        Ok(())
    }
}

impl<const N: usize> Store for Together<N> {
    fn read(&mut self, key: u32) -> Outcome<Option<u64>> {
        self.reads.push(key);
        self.add(get(key))?;
        Ok(Some(u64::from(key)))
    }

    fn update(&mut self, key: u32, to: u64) -> Outcome {
        self.add(change(key, to))
    }

    fn insert(&mut self, key: u32) -> Outcome {
        self.add(set::<N>(u64::from(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Driver, Missing, check};

    #[test]
    fn values_are_had_one_by_one_and_together_by_both_ways() {
        let undo = Undo::default();
        let mut redis = match Redis::start(&undo) {
            Ok(redis) => redis,
            Err(why) => return eprintln!("SKIPPED: {why}"),
        };
        redis.fill::<8>(100).expect("values");
        for way in [Way::Unix, Way::Loopback] {
            check(&mut redis.singly::<8>(way).expect("a connection"), Missing::IsTold);
            let mut together = redis.together::<8>(way).expect("a connection");
            Driver::new((0..100).collect(), 50).run(&mut together, 1000).expect("operations");
            redis::cmd("DEL").arg(&key_of(100)[..]).exec(&mut together.connection).expect("a connection");
        }
        let mut together = redis.together::<8>(Way::Unix).expect("a connection");
        let lost = (0..TOGETHER as u32).find_map(|key| together.read(key + 90).err()).expect("what is not there is found out");
        assert_eq!(lost.to_string(), "key 100 has no value");
    }

    #[test]
    fn values_of_another_size_replace_those_that_were_there() {
        let undo = Undo::default();
        let Ok(mut redis) = Redis::start(&undo) else { return eprintln!("SKIPPED: no redis-server") };
        redis.fill::<8>(10).expect("values");
        redis.fill::<64>(5).expect("values");
        let mut values = redis.singly::<64>(Way::Unix).expect("a connection");
        assert_eq!(values.read(4).expect("a read"), Some(4));
        assert_eq!(values.read(5).expect("a read"), None);
    }
}
