//! Progress on stderr, hidden when that is not a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::index::IndexProgress;
use super::runs::MergeProgress;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);
const BYTES_BAR: &str = "{msg:12} [{bar:40}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left";
const BLOCKS_BAR: &str = "{msg:12} [{bar:40}] {pos}/{len} blocks, {eta} left";

/// Shows one step after the other.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    text_bytes: u64,
}

impl Progress {
    /// A spinner, while the tree is sized.
    pub fn spinner(message: &'static str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(message);
        bar.enable_steady_tick(TICK);
        Progress { bar, text_bytes: 0 }
    }

    /// A bar, while `text_bytes` of text are indexed.
    pub fn index(text_bytes: u64) -> Self {
        let bar = ProgressBar::new(text_bytes).with_style(style(BYTES_BAR)).with_message("indexing");
        Progress { bar, text_bytes }
    }

    /// Shows a step of indexing.
    pub fn step(&self, step: IndexProgress) {
        match step {
            IndexProgress::Read(bytes) => self.bar.inc(bytes as u64),
            IndexProgress::Merge(MergeProgress::Blocks(blocks)) => {
                self.bar.set_style(style(BLOCKS_BAR));
                self.bar.set_message("merging");
                self.bar.set_length(blocks as u64);
                self.bar.reset();
            }
            IndexProgress::Merge(MergeProgress::BlockRead) => self.bar.inc(1),
        }
        // Files may have grown since they were sized; a bar past its end looks broken.
        if self.bar.position() > self.bar.length().unwrap_or(self.text_bytes) {
            self.bar.set_length(self.bar.position());
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant").progress_chars("=> ")
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
