//! The stores that are compared with farptr's: filled once it is known how, or said to be missing.

use crate::bench::Bench;
use crate::figure::Role;
use crate::store::Store;

/// A store, and the series that it is measured as.
pub(crate) type Named = (String, Role, Box<dyn Store>);

/// How many there are at most.
pub(crate) const MOST: usize = if cfg!(feature = "alternatives") { 4 } else { 0 };

/// Notes what has to be known of what was measured.
pub(crate) fn remarks(bench: &mut Bench<'_>, place: &str, stores: &mut [Named]) {
    for (series, _, store) in stores {
        if let Some(remark) = store.remark() {
            bench.note(format!("{place}: {series} {remark}"));
        }
    }
}

/// What is kept from one filling to the next.
#[derive(Default)]
pub(crate) struct Stores {
    #[cfg(feature = "alternatives")]
    redis: Option<Result<crate::redis::Redis, String>>,
}

#[cfg(not(feature = "alternatives"))]
impl Stores {
    /// Says that there are none.
    #[expect(clippy::unused_self, reason = "there is something in it with the feature")]
    pub(crate) fn fill<const N: usize>(&mut self, bench: &mut Bench<'_>, _count: usize, _budget: usize) -> Vec<Named> {
        for name in ["a hybrid cache (foyer)", "redis"] {
            bench.missing(name, "build farbench with `--features alternatives`");
        }
        Vec::new()
    }
}

#[cfg(feature = "alternatives")]
impl Stores {
    /// Those that can be had here, with `count` values of `N` words; a cache in `budget` bytes.
    pub(crate) fn fill<const N: usize>(&mut self, bench: &mut Bench<'_>, count: usize, budget: usize) -> Vec<Named> {
        bench.on_top(|bench| self.set_up::<N>(bench, count, budget))
    }

    fn set_up<const N: usize>(&mut self, bench: &mut Bench<'_>, count: usize, budget: usize) -> Vec<Named> {
        let mut stores: Vec<Named> = Vec::new();
        bench.doing("setting up, a hybrid cache");
        match crate::hybrid::Hybrid::<N>::fill(count, budget, bench.undo()) {
            Ok(cache) => stores.push(("foyer, device in memory".into(), Role::Alternative, Box::new(cache))),
            Err(why) => bench.missing(format!("a hybrid cache (foyer), values of {} bytes, {budget} bytes local", N * 8), why),
        }
        bench.doing("setting up, redis");
        match self.redis::<N>(bench, count) {
            Ok(redis) => stores.extend(redis),
            Err(why) => bench.missing("redis", why),
        }
        stores
    }

    fn redis<const N: usize>(&mut self, bench: &mut Bench<'_>, count: usize) -> crate::Outcome<Vec<Named>> {
        use crate::redis::{Redis, Way};
        let redis = self.redis.get_or_insert_with(|| Redis::start(bench.undo()).map_err(|error| error.to_string()));
        let redis = redis.as_mut().map_err(|why| why.clone())?;
        redis.fill::<N>(count)?;
        let mut stores: Vec<Named> = Vec::new();
        for way in [Way::Unix, Way::Loopback] {
            stores.push((format!("redis, {way}"), Role::Alternative, Box::new(redis.singly::<N>(way)?)));
        }
        let together = redis.together::<N>(Way::Unix)?;
        stores.push((format!("redis, {}, 64 at a time", Way::Unix), Role::Alternative, Box::new(together)));
        Ok(stores)
    }
}
