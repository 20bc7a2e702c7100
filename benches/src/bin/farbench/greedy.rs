//! A log-structured store that cleans greedily, by simulation: what must be moved to make room.
//!
//! Objects of one size are overwritten at random. An overwritten object is dirty in local memory first, and its image in the log is dead; the object that has been dirty longest is appended to the
//! log when there are too many. When no segment is free, the one with the least alive is emptied: its images are appended again. Greedy is the best choice where all objects are equally likely to be
//! written (Rosenblum and Ousterhout, SOSP 1991, section 3.5), and one free segment is the least that a log can do with.

use farptr_benches::random::Random;
use std::collections::VecDeque;

/// Where an object is that has no image in the log.
const NOWHERE: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Log {
    per_segment: usize,
    /// The segment of each object's image.
    place: Vec<u32>,
    /// What was appended to each segment.
    appended: Vec<Vec<u32>>,
    /// How many of these images are alive.
    alive: Vec<u32>,
    free: Vec<u32>,
    open: u32,
    dirty: VecDeque<u32>,
    most_dirty: usize,
    written: u64,
    moved: u64,
}

impl Log {
    /// A log of so many segments, with so many objects in it, of which `most_dirty` may be dirty.
    pub(crate) fn new(segments: usize, per_segment: usize, objects: usize, most_dirty: usize) -> Self {
        assert!(objects.saturating_sub(most_dirty) < (segments - 1) * per_segment, "the objects fit, with a segment to spare");
        let mut log = Log {
            per_segment,
            place: vec![NOWHERE; objects],
            appended: vec![Vec::with_capacity(per_segment); segments],
            alive: vec![0; segments],
            free: (1..segments as u32).collect(),
            open: 0,
            dirty: VecDeque::new(),
            most_dirty,
            written: 0,
            moved: 0,
        };
        (0..objects as u32).for_each(|object| log.overwrite(object));
        log
    }

    /// Overwrites until the log has settled, then counts.
    pub(crate) fn moved_for_written(mut self) -> f64 {
        let mut random = Random::seeded(9);
        let objects = self.place.len();
        let mut overwrite = |log: &mut Self| (0..4 * objects).for_each(|_| log.overwrite(random.below(objects) as u32));
        overwrite(&mut self);
        (self.written, self.moved) = (0, 0);
        overwrite(&mut self);
        self.moved as f64 / self.written as f64
    }

    fn overwrite(&mut self, object: u32) {
        let place = std::mem::replace(&mut self.place[object as usize], NOWHERE);
        if place != NOWHERE {
            self.alive[place as usize] -= 1;
        } else if self.dirty.contains(&object) {
            return;
        }
        self.dirty.push_back(object);
        if self.dirty.len() > self.most_dirty {
            let oldest = self.dirty.pop_front().expect("there are too many");
            self.make_room();
            self.append(oldest);
            self.written += 1;
        }
    }

    fn append(&mut self, object: u32) {
        self.appended[self.open as usize].push(object);
        self.alive[self.open as usize] += 1;
        self.place[object as usize] = self.open;
    }

    /// Room for an image in the open segment.
    fn make_room(&mut self) {
        while self.appended[self.open as usize].len() == self.per_segment {
            let next = self.free.pop().expect("one is free");
            let full = std::mem::replace(&mut self.open, next);
            if !self.free.is_empty() {
                continue;
            }
            let victims = (0..self.alive.len() as u32).filter(|segment| *segment != next);
            let victim = victims.min_by_key(|segment| self.alive[*segment as usize]).unwrap_or(full);
            self.alive[victim as usize] = 0;
            for object in std::mem::take(&mut self.appended[victim as usize]) {
                if self.place[object as usize] == victim {
                    self.append(object);
                    self.moved += 1;
                }
            }
            self.free.push(victim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of a large log alive: victims are about a fifth alive (`u = (v - 1) / ln v`, Menon 1995, of which greedy is a little better).
    #[test]
    fn moves_what_is_known_of_logs_that_are_half_full() {
        let ratio = Log::new(512, 64, 512 * 32, 0).moved_for_written();
        let alive = ratio / (1.0 + ratio);
        assert!((0.15..0.22).contains(&alive), "{alive}");
    }

    #[test]
    fn the_fuller_the_more() {
        let ratios = [70, 80, 90, 95].map(|percent| Log::new(128, 64, 128 * 64 * percent / 100, 500).moved_for_written());
        assert!(ratios.is_sorted() && ratios[3] > 3.0, "{ratios:?}");
    }
}
