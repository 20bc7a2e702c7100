//! The budget against a number.
#![forbid(unsafe_code)]

use crate::config;
use farptr_runtime::budget::{Budget, Party};
use proptest::prelude::*;

fn party() -> impl Strategy<Value = Party> {
    prop_oneof![Just(Party::Creator), Just(Party::Mutator), Just(Party::Scope), Just(Party::Evacuator)]
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0..400usize, 1 => any::<usize>(), 1 => Just(usize::MAX)]
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn budget_is_what_was_charged_and_never_over_its_limit(
        (limit, headroom) in (1..2000usize).prop_flat_map(|limit| (Just(limit), 0..limit)),
        steps in prop::collection::vec((any::<bool>(), party(), bytes()), 1..100),
    ) {
        let budget = Budget::new(limit, headroom);
        let mut held: Vec<usize> = Vec::new();
        for (is_charge, party, bytes) in steps {
            let used: usize = held.iter().sum();
            let most = if party == Party::Evacuator { limit } else { limit - headroom };
            prop_assert_eq!((budget.used(), budget.limit_for(party)), (used, most));
            prop_assert_eq!(budget.free_for(party), most.saturating_sub(used));
            if is_charge {
                let fits = bytes <= most && used <= most - bytes;
                prop_assert_eq!(budget.try_charge(party, bytes), fits);
                held.extend(fits.then_some(bytes));
            } else if !held.is_empty() {
                budget.release(held.swap_remove(bytes % held.len()));
            }
        }
    }
}

/// Whatever the order of events, no thread sees it over its limit, and it ends at nothing.
#[test]
fn threads_share_a_budget() {
    const LIMIT: usize = 1000;
    let budget = Budget::new(LIMIT, 100);
    std::thread::scope(|scope| {
        for thread in 1..4usize {
            let budget = &budget;
            scope.spawn(move || {
                let mut held = Vec::new();
                for step in 0..20_000usize {
                    let bytes = (step * 31 + thread * 7) % 190;
                    let party = if step % 3 == 0 { Party::Evacuator } else { Party::Mutator };
                    if budget.try_charge(party, bytes) {
                        held.push(bytes);
                    }
                    assert!(budget.used() <= LIMIT);
                    if step % 2 == 0
                        && let Some(bytes) = held.pop()
                    {
                        budget.release(bytes);
                    }
                }
                held.into_iter().for_each(|bytes| budget.release(bytes));
            });
        }
    });
    assert_eq!(budget.used(), 0);
}
