//! Rounds, far log and cleaner as one system, step by step and without threads, against a simple model: a vector of byte strings.
//!
//! Random steps: objects of all sizes and alignments made, read, written, dropped and pinned; rounds, cleaning, sweeps, trimming in any order;
//! mutators that come between while a round writes or the cleaner reads; a lender that refuses, fails, dies and garbles where the script
//! says. After every step the books must balance to the byte: what the objects refer to in far memory is what is alive there, segment by
//! segment; what they take of the budget is what is charged. After some, every copy of every object is compared with the model.
//! At the end nothing is left.
//!
//! `PROPTEST_CASES=1000 cargo test -p farptr-evacuator --test model` runs longer. A failure prints the shortest script that shows it, and the line
//! that repeats it.

mod lender;
mod meanwhile;
mod object;
mod objects;
mod stories;
mod world;

use farptr_evacuator::round::Mercy;
use farptr_runtime::memory::Stats;
use farptr_runtime::scope::{AccessHint, Scope};
use lender::{Done, Order, Trouble};
use objects::Action;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::alloc::Layout;
use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};
use world::{Setting, Step, World};

/// Steps between two looks at every byte.
const LOOK_EVERY: usize = 16;

/// Steps of a case, at most.
const MOST_STEPS: usize = 300;

/// Cases from which on it is worth asking whether enough has happened.
const LEAST_TO_JUDGE: u32 = 50;

/// Attempts at a shorter script of a failure: some ten seconds.
const MOST_SHRINKS: u32 = 2000;

fn layout() -> impl Strategy<Value = Layout> {
    let size = prop_oneof![
        6 => 1..300usize,
        2 => Just(0usize),
        4 => 300..8_200usize,
        2 => 8_200..70_000usize,
        1 => 70_000..270_000usize,
        1 => 300_000..450_000usize,
    ];
    (size, prop_oneof![3 => 0..5u32, 1 => 5..13u32]).prop_map(|(size, align)| Layout::from_size_align(size, 1 << align).unwrap())
}

fn hint() -> impl Strategy<Value = AccessHint> {
    prop_oneof![4 => Just(AccessHint::Normal), 1 => Just(AccessHint::NonTemporal)]
}

/// How many objects of a size are made at once: up to a few hundred kilobytes.
fn count(layout: Layout, wanted: u8) -> u8 {
    let most = (300_000 / (layout.size() + 64)).clamp(1, 250) as u8;
    wanted % most + 1
}

fn action() -> impl Strategy<Value = Action> {
    let few = prop_oneof![3 => Just(1u16), 1 => 1..300u16];
    prop_oneof![
        6 => (layout(), any::<u8>(), any::<u64>())
            .prop_map(|(layout, wanted, seed)| Action::New { layout, count: count(layout, wanted), seed }),
        5 => (any::<u16>(), few.clone(), hint()).prop_map(|(at, count, hint)| Action::Read { at, count, hint }),
        5 => (any::<u16>(), few.clone(), any::<u16>(), any::<u64>(), hint())
            .prop_map(|(at, count, from, seed, hint)| Action::Write { at, count, from, seed, hint }),
        1 => any::<u16>().prop_map(|at| Action::Take { at }),
        3 => (any::<u16>(), few).prop_map(|(at, count)| Action::GiveUp { at, count }),
        1 => (any::<u16>(), prop_oneof![8 => 1..3u16, 1 => 250..260u16]).prop_map(|(at, count)| Action::Pin { at, count }),
        2 => any::<u16>().prop_map(|at| Action::Unpin { at }),
    ]
}

fn done() -> impl Strategy<Value = Done> {
    prop_oneof![Just(Done::Nothing), Just(Done::Half), Just(Done::All)]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        3 => done().prop_map(Trouble::Fails),
        2 => done().prop_map(Trouble::Dies),
        2 => done().prop_map(Trouble::DeadOnSubmit),
        1 => Just(Trouble::Busy),
        1 => Just(Trouble::Garbles),
        1 => Just(Trouble::NoSession),
        1 => Just(Trouble::NoSlab),
        1 => Just(Trouble::NotTakenBack),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => action().prop_map(Step::Act),
        4 => (0..4u8, action()).prop_map(|(after, action)| Step::Between(after, action)),
        3 => prop_oneof![3 => Just(Mercy::Spare), 1 => Just(Mercy::None)].prop_map(Step::Round),
        2 => Just(Step::Clean),
        1 => Just(Step::Seal),
        1 => Just(Step::Sweep),
        1 => Just(Step::FreeLimbo),
        2 => Just(Step::EvacuateAll),
        1 => Just(Step::Trim),
    ]
}

fn troubled_step() -> impl Strategy<Value = Step> {
    prop_oneof![6 => step(), 1 => (0..6u8, trouble()).prop_map(|(after, trouble)| Step::Trouble(after, trouble))]
}

fn setting() -> impl Strategy<Value = Setting> {
    let budget = prop_oneof![2 => Just(1usize << 20), 1 => Just(2usize << 20)];
    let far_capacity = prop_oneof![4 => Just(64u64 << 20), 1 => Just(3u64 << 20)];
    let order = prop_oneof![Just(Order::OldestFirst), Just(Order::NewestFirst)];
    (budget, prop_oneof![Just(4u32), Just(1), Just(2)], far_capacity, order, any::<bool>()).prop_map(
        |(budget, slab_segments, far_capacity, order, is_immediate)| Setting {
            budget,
            slab_segments,
            far_capacity,
            order,
            is_immediate,
        },
    )
}

/// What happened in all cases together: a model of nothing would always agree.
#[derive(Debug, Default)]
struct Happened {
    stats: Stats,
    troubles: u32,
    between: u32,
}

impl Happened {
    fn add(&mut self, world: &World) {
        let (stats, sum) = (world.stats(), &mut self.stats);
        sum.misses += stats.misses;
        sum.written_back_objects += stats.written_back_objects;
        sum.evacuated_objects += stats.evacuated_objects;
        sum.relocated_objects += stats.relocated_objects;
        sum.rescued_objects += stats.rescued_objects;
        sum.cleaned_bytes += stats.cleaned_bytes;
        sum.rounds += stats.rounds;
        self.troubles += world.troubles();
        self.between += meanwhile::done();
    }

    /// Each thing happened at least so often a case.
    fn assert_enough(&self, cases: u64) {
        let Stats { misses, written_back_objects, relocated_objects, rescued_objects, cleaned_bytes, .. } = self.stats;
        let let_go = self.stats.evacuated_objects - written_back_objects;
        let enough = misses > 100 * cases
            && written_back_objects > 100 * cases
            && let_go > 20 * cases
            && relocated_objects > 5 * cases
            && rescued_objects > cases / 4
            && cleaned_bytes > 1000 * cases
            && u64::from(self.between) > cases;
        assert!(enough, "in {cases} cases too little happened to mean anything: {self:?}");
    }
}

/// One test at a time, on a thread that is known: what a memory keeps for scopes follows from the threads of the process, and a script must do the same whenever
/// it is run.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    drop(Scope::enter());
    turn
}

fn run(setting: Setting, steps: &[Step], happened: &RefCell<Happened>) {
    let world = World::new(setting);
    for (number, step) in steps.iter().enumerate() {
        world.step(step);
        world.check(number % LOOK_EVERY == LOOK_EVERY - 1);
    }
    world.finish(|world| happened.borrow_mut().add(world));
}

/// Runs `cases` cases, or as many as the environment asks for.
fn agree(name: &'static str, cases: u32, step: impl Strategy<Value = Step>) -> Happened {
    let _turn = turn();
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { cases };
    let config = ProptestConfig {
        cases,
        max_shrink_iters: asked.max_shrink_iters.min(MOST_SHRINKS),
        source_file: Some(file!()),
        test_name: Some(name),
        ..asked
    };
    let happened = RefCell::default();
    let outcome = TestRunner::new(config).run(&(setting(), prop::collection::vec(step, 1..MOST_STEPS)), |(setting, steps)| {
        run(setting, &steps, &happened);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let happened = happened.into_inner();
    println!("{cases} cases: {happened:?}");
    if cases >= LEAST_TO_JUDGE {
        happened.assert_enough(cases.into());
    }
    happened
}

#[test]
fn books_balance_whatever_is_done() {
    let happened = agree("books_balance_whatever_is_done", 120, step());
    assert_eq!(happened.troubles, 0);
}

#[test]
fn nothing_is_lost_and_nothing_leaks_when_the_lender_fails() {
    let happened = agree("nothing_is_lost_and_nothing_leaks_when_the_lender_fails", 120, troubled_step());
    assert!(happened.troubles > 0);
}
