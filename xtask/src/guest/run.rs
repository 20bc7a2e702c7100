//! Boots guests, passes on what they say, and ends them.
//!
//! A guest is ended by its process: when the time is up, and (by `setpriv --pdeathsig`) when this process ends, however it does.
#![forbid(unsafe_code)]

use crate::guest::course::{Course, Event, Failure, Order, Role, Stage};
use crate::guest::image::Image;
use crate::guest::machine::{CONSOLE, Machine, Network};
use crate::guest::script::{self, Script};
use rustix::io::{FdFlags, fcntl_setfd};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// For a command that was told to end, and its guest. Emulated, a server that unmaps its memory takes seconds.
const GRACE: Duration = Duration::from_secs(20);

/// What one guest does.
pub(crate) struct Task {
    pub(crate) role: Role,
    pub(crate) script: Script,
}

pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) memory_mib: u32,
    pub(crate) cpus: u8,
}

/// Why a run failed.
pub(crate) enum Problem {
    /// It was not to be: for people.
    Unable(String),
    /// A command failed, with this status.
    Failed { status: u8, what: String },
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Problem::Unable(problem)
    }
}

/// The status of a run that was ended by its limit, as of the program `timeout`.
const TIMED_OUT: u8 = 124;

/// What comes from a guest.
enum Message {
    Event(Event),
    /// The machine is gone.
    Closed,
}

struct Guest {
    name: String,
    /// Where it says what it is.
    console: PathBuf,
    machine: Child,
    control: UnixStream,
    listeners: Vec<JoinHandle<()>>,
}

/// Runs the tasks, each in a guest of its own.
pub(crate) fn run(tasks: &[Task], image: &Image, limits: &Limits, work: &Path) -> Result<(), Problem> {
    let (folder, _lock) = own_folder(work)?;
    let started = Instant::now();
    let (sender, receiver) = mpsc::channel();
    let mut guests = Vec::new();
    let started_all = start_all(tasks, image, limits, &folder, &sender, &mut guests);
    drop(sender);
    let mut course = Course::new(tasks.iter().map(|task| task.role));
    if started_all.is_ok() {
        follow(&mut course, &mut guests, &receiver, started + limits.time);
    }
    for guest in &mut guests {
        // Most have ended by themselves.
        let _ = guest.machine.kill();
        let _ = guest.machine.wait();
        guest.listeners.drain(..).for_each(|listener| listener.join().expect("a listener doesn't panic"));
    }
    started_all?;
    let told = |guest: usize| format!("guest {}; what its kernel said: {}", guests[guest].name, guests[guest].console.display());
    match (course.failure(), course.pending().next()) {
        (Some(Failure::Status { guest, status }), _) => {
            let what = format!("the command ended with status {status} in {}", told(*guest));
            Err(Problem::Failed { status: *status, what })
        }
        (Some(Failure::Lost { guest, reason }), _) => Err(Problem::Unable(format!("{reason}: {}", told(*guest)))),
        (None, Some((guest, stage))) => {
            let what = format!("{} s were not enough: {stage} {}", limits.time.as_secs(), told(guest));
            Err(Problem::Failed { status: TIMED_OUT, what })
        }
        (None, None) => Ok(()),
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Starting => "still starting was",
            Stage::Waiting => "still waiting for the others was",
            Stage::Running => "the command still ran in",
            Stage::Over => "over was",
        })
    }
}

/// A folder that no other run uses while the file is open. The next run takes it again, so that they don't become many.
fn own_folder(work: &Path) -> Result<(PathBuf, File), String> {
    let failed = |error: io::Error| format!("can't write to {}: {error}", work.display());
    for i in 0..100 {
        let folder = work.join(format!("run{i}"));
        fs::create_dir_all(&folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        if lock.try_lock().is_ok() {
            return Ok((folder, lock));
        }
    }
    Err("a hundred runs of guests are under way".into())
}

fn start_all(
    tasks: &[Task],
    image: &Image,
    limits: &Limits,
    folder: &Path,
    sender: &Sender<(usize, Message)>,
    guests: &mut Vec<Guest>,
) -> Result<(), String> {
    // The first guest's ends, and the others' in their order.
    let wires = (1..tasks.len()).map(|_| UnixStream::pair()).collect::<Result<Vec<_>, _>>();
    let (hub, others): (Vec<UnixStream>, Vec<UnixStream>) =
        wires.map_err(|error| format!("no sockets: {error}"))?.into_iter().unzip();
    let mut ends = vec![hub];
    ends.extend(others.into_iter().map(|end| vec![end]));
    for (i, (task, ends)) in tasks.iter().zip(ends).enumerate() {
        let name = char::from(b'a' + u8::try_from(i).expect("there are not so many guests")).to_string();
        let (address, network) = if tasks.len() == 1 {
            (ALONE, Network::Alone)
        } else {
            (address(i), Network::Wired { wires: ends.iter().map(AsRawFd::as_raw_fd).collect() })
        };
        let folder = folder.join(&name);
        write_scripts(&task.script, address, &folder)?;
        let (control, theirs) = UnixStream::pair().map_err(|error| format!("no sockets: {error}"))?;
        let machine = Machine {
            image,
            name: &name,
            address,
            network,
            cpus: limits.cpus,
            memory_mib: limits.memory_mib,
            folder: &folder,
            control: theirs.as_raw_fd(),
        };
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "--", QEMU]).args(machine.arguments()?);
        // What is passed on to one machine is closed before the next is started, or that would inherit it as well.
        for end in ends.iter().chain([&theirs]) {
            fcntl_setfd(end, FdFlags::empty()).map_err(|error| format!("can't pass a socket on: {error}"))?;
        }
        let machine = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let machine = machine.map_err(|error| format!("can't run setpriv: {error}"))?;
        drop((ends, theirs));
        let console = folder.join(CONSOLE);
        let mut guest = Guest { name, console, machine, control, listeners: Vec::new() };
        // A single client's output is passed on as it is; a server's is beside the point.
        let clients = tasks.iter().filter(|task| task.role == Role::Client).count();
        guest.listen(i, task.role, task.role == Role::Client && clients == 1, sender)?;
        guests.push(guest);
    }
    Ok(())
}

/// The emulator.
pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// Of a guest without others.
const ALONE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// Of the guest of this number among several.
fn address(guest: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, 0, u8::try_from(guest + 1).expect("there are not so many guests"))
}

fn write_scripts(script: &Script, address: Ipv4Addr, folder: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("can't write to {}: {error}", folder.display());
    let here = std::env::current_dir().map_err(|error| format!("there is no current folder: {error}"))?;
    // Variables that are not text are nobody's here.
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    // Tells tests that verbs are there, and where.
    let told = ("FARPTR_TEST_RDMA".to_owned(), address.to_string());
    let text = script.text(script::passed_on(variables).chain([told]), &here);
    fs::create_dir_all(folder).map_err(failed)?;
    fs::write(folder.join("boot"), include_str!("../../../ci/guest/boot")).map_err(failed)?;
    fs::write(folder.join("command"), text).map_err(failed)
}

impl Guest {
    /// Starts threads that pass on what is said, until the machine is gone.
    fn listen(&mut self, i: usize, role: Role, plain: bool, sender: &Sender<(usize, Message)>) -> Result<(), String> {
        let prefix = if plain { String::new() } else { format!("{}| ", self.name) };
        let stdout = self.machine.stdout.take().expect("standard output is piped");
        let stderr = self.machine.stderr.take().expect("standard error is piped");
        let control = self.control.try_clone().map_err(|error| format!("no sockets: {error}"))?;
        let (spoke, answers, errors) = (sender.clone(), sender.clone(), prefix.clone());
        self.listeners.push(thread::spawn(move || {
            // Who doesn't receive any more knows enough.
            let hear = || drop(spoke.send((i, Message::Event(Event::Spoke))));
            match role {
                Role::Server => pass_on(stdout, &mut io::stderr(), &prefix, hear),
                Role::Client => pass_on(stdout, &mut io::stdout(), &prefix, hear),
            }
        }));
        self.listeners.push(thread::spawn(move || pass_on(stderr, &mut io::stderr(), &errors, || ())));
        self.listeners.push(thread::spawn(move || {
            for line in BufReader::new(control).lines().map_while(Result::ok) {
                drop(answers.send((i, Message::Event(answer(&line)))));
            }
            drop(answers.send((i, Message::Closed)));
        }));
        Ok(())
    }

    fn tell(&mut self, order: Order) {
        let order = match order {
            Order::Go => "go\n",
            Order::End => "end\n",
        };
        // If it is gone, that is heard from its listener.
        let _ = self.control.write_all(order.as_bytes());
    }
}

/// What a guest says in answer to orders: `ci/guest/boot`.
fn answer(line: &str) -> Event {
    match line.strip_prefix("status ") {
        None if line == "ready" => Event::Ready,
        Some(status) => status.parse().map_or_else(|_| Event::Lost(status.to_owned()), Event::Ended),
        None => Event::Lost(format!("it said `{line}`")),
    }
}

/// Copies line by line. Calls `hear` after each.
fn pass_on(from: impl Read, to: &mut impl Write, prefix: &str, hear: impl Fn()) {
    let (mut from, mut line) = (BufReader::new(from), prefix.as_bytes().to_vec());
    while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
        // Where the output goes may be gone (`| head`); the guest shall run to its end all the same.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        hear();
        line.truncate(prefix.len());
    }
}

/// Follows the course until all machines are gone, or the time is up.
fn follow(course: &mut Course, guests: &mut [Guest], receiver: &Receiver<(usize, Message)>, limit: Instant) {
    let (mut deadline, mut closed) = (limit, 0);
    while closed < guests.len() {
        let Ok((guest, message)) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) else { return };
        let event = match message {
            Message::Event(event) => event,
            Message::Closed => {
                closed += 1;
                Event::Lost("the machine ended before its command did".into())
            }
        };
        for (guest, order) in course.hear(guest, event) {
            guests[guest].tell(order);
        }
        if course.is_ending() || course.pending().next().is_none() {
            deadline = deadline.min(Instant::now() + GRACE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        assert_eq!(answer("ready"), Event::Ready);
        assert_eq!(answer("status 101"), Event::Ended(101));
        assert_eq!(answer("status no RDMA device"), Event::Lost("no RDMA device".into()));
        assert!(matches!(answer("what"), Event::Lost(_)));
    }

    #[test]
    fn several_guests_lines_are_told_apart() {
        let mut heard = Vec::new();
        pass_on(&b"one\n\xff two\nthree"[..], &mut heard, "b| ", || ());
        assert_eq!(heard, b"b| one\nb| \xff two\nb| three");
    }

    #[test]
    fn runs_at_the_same_time_have_folders_of_their_own() {
        let work = std::env::temp_dir().join(format!("farptr-guest-runs-{}", std::process::id()));
        let (first, lock) = own_folder(&work).unwrap();
        let (second, _lock) = own_folder(&work).unwrap();
        assert_ne!(first, second);
        drop(lock);
        let (third, _lock_too) = own_folder(&work).unwrap();
        fs::remove_dir_all(&work).unwrap();
        assert_eq!(first, third);
    }
}
