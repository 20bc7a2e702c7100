//! The course of a run: what several guests have said so far, and what they are told next. Knows neither processes nor clocks.
//!
//! A guest is *starting* until it says that it is ready, then *waiting* until it is told to go, then *running* until it says how its command ended.
//!
//! - Nobody goes before all are ready, so that a command finds the others' machines there.
//! - Servers go first; the other commands when each server has said a line, which is when `farmemd` and its like can be used.
//! - When all but servers have ended, servers are told to end.
//! - Once one has failed, all are told to end: a peer may wait for it for ever. What they make of it doesn't matter any more.
#![forbid(unsafe_code)]

/// What a guest's command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It works for the others, until it is told to end.
    Server,
    /// It ends by itself.
    Client,
}

/// What a guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Ready,
    /// Its command has said a line on standard output.
    Spoke,
    /// Its command ended, with this status.
    Ended(u8),
    /// It couldn't start, for the reason given, or can't say how its command ended.
    Lost(String),
}

/// What a guest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Go,
    /// Ends the command, and the guest with it.
    End,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The guest's command failed.
    Status { guest: usize, status: u8 },
    /// The guest is gone.
    Lost { guest: usize, reason: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Starting,
    Waiting,
    Running,
    Over,
}

struct Guest {
    role: Role,
    stage: Stage,
    spoke: bool,
    told_to_end: bool,
}

/// What is known of a run.
pub(crate) struct Course {
    guests: Vec<Guest>,
    failure: Option<Failure>,
}

/// A shell's status of a command that was ended by the signal that asks it to.
const TERMINATED: u8 = 128 + 15;

impl Course {
    pub(crate) fn new(roles: impl IntoIterator<Item = Role>) -> Self {
        let guest = |role| Guest { role, stage: Stage::Starting, spoke: false, told_to_end: false };
        Course { guests: roles.into_iter().map(guest).collect(), failure: None }
    }

    /// Takes note, and says who is told what now.
    pub(crate) fn hear(&mut self, of: usize, event: Event) -> Vec<(usize, Order)> {
        let guest = &mut self.guests[of];
        let failure = match event {
            Event::Spoke => {
                guest.spoke = true;
                None
            }
            Event::Ready => {
                guest.stage = Stage::Waiting;
                None
            }
            Event::Ended(status) => {
                guest.stage = Stage::Over;
                let well = status == 0 || (guest.told_to_end && status == TERMINATED);
                (!well).then_some(Failure::Status { guest: of, status })
            }
            // After its last word a guest goes.
            Event::Lost(_) if guest.stage == Stage::Over => None,
            Event::Lost(reason) => {
                guest.stage = Stage::Over;
                Some(Failure::Lost { guest: of, reason })
            }
        };
        self.failure = self.failure.take().or(failure);
        self.orders()
    }

    fn orders(&mut self) -> Vec<(usize, Order)> {
        let clients_over = self.guests.iter().all(|guest| guest.role == Role::Server || guest.stage == Stage::Over);
        let all_there = self.guests.iter().all(|guest| guest.stage != Stage::Starting);
        let served = self.guests.iter().all(|guest| guest.role == Role::Client || guest.spoke || guest.stage == Stage::Over);
        let mut orders = Vec::new();
        for (i, guest) in self.guests.iter_mut().enumerate() {
            if guest.stage == Stage::Over || guest.told_to_end {
                continue;
            }
            if self.failure.is_some() || (clients_over && guest.role == Role::Server) {
                guest.told_to_end = true;
                orders.push((i, Order::End));
            } else if guest.stage == Stage::Waiting && all_there && (guest.role == Role::Server || served) {
                guest.stage = Stage::Running;
                orders.push((i, Order::Go));
            }
        }
        orders
    }

    /// The guests that aren't done, and how far they have come.
    pub(crate) fn pending(&self) -> impl Iterator<Item = (usize, Stage)> {
        self.guests.iter().map(|guest| guest.stage).enumerate().filter(|(_, stage)| *stage != Stage::Over)
    }

    /// Whether somebody was told to end and hasn't.
    pub(crate) fn is_ending(&self) -> bool {
        self.guests.iter().any(|guest| guest.told_to_end && guest.stage != Stage::Over)
    }

    /// The first thing that went wrong.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_alone_goes_when_it_is_ready() {
        let mut course = Course::new([Role::Client]);
        assert_eq!(course.hear(0, Event::Ready), [(0, Order::Go)]);
        assert_eq!(course.hear(0, Event::Spoke), []);
        assert_eq!(course.hear(0, Event::Ended(3)), []);
        assert_eq!(course.hear(0, Event::Lost("gone".into())), []);
        assert_eq!(course.pending().count(), 0);
        assert_eq!(course.failure(), Some(&Failure::Status { guest: 0, status: 3 }));
    }

    #[test]
    fn clients_wait_for_servers_and_servers_outlive_them() {
        let mut course = Course::new([Role::Server, Role::Client, Role::Client]);
        assert_eq!(course.hear(1, Event::Ready), []);
        assert_eq!(course.hear(0, Event::Ready), []);
        assert_eq!(course.hear(2, Event::Ready), [(0, Order::Go)]);
        assert_eq!(course.hear(0, Event::Spoke), [(1, Order::Go), (2, Order::Go)]);
        assert_eq!(course.hear(2, Event::Ended(0)), []);
        assert_eq!(course.hear(1, Event::Ended(0)), [(0, Order::End)]);
        assert!(course.is_ending());
        assert_eq!(course.hear(0, Event::Ended(TERMINATED)), [], "what a server says when it is told to end is no failure");
        assert_eq!((course.failure(), course.pending().count(), course.is_ending()), (None, 0, false));
    }

    #[test]
    fn equals_go_together() {
        let mut course = Course::new([Role::Client, Role::Client]);
        assert_eq!(course.hear(1, Event::Ready), []);
        assert_eq!(course.hear(0, Event::Ready), [(0, Order::Go), (1, Order::Go)]);
        assert_eq!(course.hear(0, Event::Ended(0)), [], "the other may take its time");
        assert_eq!(course.pending().collect::<Vec<_>>(), [(1, Stage::Running)]);
    }

    #[test]
    fn a_failure_ends_the_others_and_the_first_one_counts() {
        let mut course = Course::new([Role::Server, Role::Client, Role::Client]);
        for guest in 0..3 {
            course.hear(guest, Event::Ready);
        }
        course.hear(0, Event::Spoke);
        assert_eq!(course.hear(1, Event::Ended(1)), [(0, Order::End), (2, Order::End)]);
        assert_eq!(course.hear(2, Event::Ended(9)), []);
        assert_eq!(course.failure(), Some(&Failure::Status { guest: 1, status: 1 }));
    }

    #[test]
    fn a_guest_that_never_starts_fails_the_run() {
        let mut course = Course::new([Role::Client, Role::Client]);
        course.hear(0, Event::Ready);
        assert_eq!(course.hear(1, Event::Lost("no kernel".into())), [(0, Order::End)]);
        assert_eq!(course.failure(), Some(&Failure::Lost { guest: 1, reason: "no kernel".into() }));
    }

    #[test]
    fn a_server_that_fails_by_itself_fails_the_run() {
        let mut course = Course::new([Role::Server, Role::Client]);
        course.hear(0, Event::Ready);
        course.hear(1, Event::Ready);
        assert_eq!(course.hear(0, Event::Ended(2)), [(1, Order::End)], "nobody waits for its first line");
    }
}
