//! The figures at the end: a summary for people, an object for programs.

use std::fmt;
use std::fs;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use super::job::Figures;

/// Everything there is to say about a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The run in far memory.
    pub far: Figures,
    /// The same in ordinary memory, if it was run.
    pub local: Option<Figures>,
    /// How many patterns were searched for.
    pub patterns: usize,
    /// The local memory budget, in bytes.
    pub local_budget_bytes: u64,
    /// Where far memory is.
    pub transport: String,
    /// Far memory lent by this very process, which its resident memory then holds, too.
    pub embedded: ResidentBytes,
    /// Peak resident memory of the run in far memory.
    pub far_peak: Option<ResidentBytes>,
    /// Peak resident memory of the run in ordinary memory.
    pub local_peak: Option<ResidentBytes>,
}

/// Resident memory of this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ResidentBytes(pub u64);

impl ResidentBytes {
    /// The most it has been since the process began or [`ResidentBytes::forget_peak`]; `None` where the kernel doesn't tell.
    pub fn peak() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(ResidentBytes(kibibytes * 1024))
    }

    /// Lets the peak start anew from what is resident now. False if the kernel refuses.
    pub fn forget_peak() -> bool {
        fs::write("/proc/self/clear_refs", "5").is_ok()
    }
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Json<'r> {
    matches: u64,
    files: u64,
    bytes_indexed: u64,
    local_budget_bytes: u64,
    far_bytes: u64,
    hit_ratio: f64,
    index_seconds: f64,
    query_seconds: f64,
    all_local_index_seconds: Option<f64>,
    all_local_query_seconds: Option<f64>,
    peak_rss_bytes: Option<ResidentBytes>,
    transport: &'r str,
}

impl Report {
    /// The report as one line of JSON.
    pub fn json(&self) -> String {
        let json = Json {
            matches: self.far.matches,
            files: self.far.files,
            bytes_indexed: self.far.bytes,
            local_budget_bytes: self.local_budget_bytes,
            far_bytes: self.far.usage.far_bytes,
            hit_ratio: self.far.usage.hit_ratio(),
            index_seconds: self.far.index_time.as_secs_f64(),
            query_seconds: self.far.query_time.as_secs_f64(),
            all_local_index_seconds: self.local.map(|local| local.index_time.as_secs_f64()),
            all_local_query_seconds: self.local.map(|local| local.query_time.as_secs_f64()),
            peak_rss_bytes: self.far_peak,
            transport: &self.transport,
        };
        serde_json::to_string(&json).expect("numbers and a string become JSON")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let far = &self.far;
        let share = 100.0 * self.local_budget_bytes as f64 / far.bytes.max(1) as f64;
        writeln!(out, "indexed        {} of text in {}", size(far.bytes), counted(far.files, "file"))?;
        writeln!(out, "matches        {}, {}", counted(far.matches, "line"), counted(self.patterns as u64, "pattern"))?;
        writeln!(out, "local budget   {} ({share:.0}% of the text)", size(self.local_budget_bytes))?;
        writeln!(out, "far memory     {} used, {}", size(far.usage.far_bytes), self.transport)?;
        let queries = far.usage.since(&far.after_index);
        writeln!(
            out,
            "hit ratio      {:.2}% of {} accesses to far objects (indexing {:.2}%, queries {:.2}%)",
            100.0 * far.usage.hit_ratio(),
            far.usage.accesses,
            100.0 * far.after_index.hit_ratio(),
            100.0 * queries.hit_ratio(),
        )?;
        writeln!(
            out,
            "index          {} trigrams, {} postings; beside far memory {} in all: {:.1} bytes a file, {:.2} a trigram",
            far.trigrams,
            far.postings,
            size(far.heap_bytes as u64),
            far.file_table_bytes as f64 / far.files.max(1) as f64,
            (far.heap_bytes - far.file_table_bytes) as f64 / far.trigrams.max(1) as f64,
        )?;
        writeln!(out, "{:14} {:>14} {:>14}", "", "in far memory", "all local")?;
        let local =
            |figure: fn(&Figures) -> Duration| self.local.as_ref().map_or("not run".to_owned(), |local| time(figure(local)));
        writeln!(out, "{:14} {:>14} {:>14}", "indexing", time(far.index_time), local(|figures| figures.index_time))?;
        writeln!(out, "{:14} {:>14} {:>14}", "queries", time(far.query_time), local(|figures| figures.query_time))?;
        let resident = |peak: Option<ResidentBytes>| peak.map_or("unknown".to_owned(), |bytes| size(bytes.0));
        let local_peak = if self.local.is_some() { resident(self.local_peak) } else { "not run".to_owned() };
        write!(out, "{:14} {:>14} {:>14}", "resident peak", resident(self.far_peak), local_peak)?;
        if self.embedded.0 > 0 {
            let lent = size(self.embedded.0);
            write!(
                out,
                "\n(the peak includes far memory that this process lends itself, {lent} by the end; with --server it is elsewhere)"
            )?;
        }
        Ok(())
    }
}

/// Bytes, for people.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// So many of them, for people.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A time, for people.
pub fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}
