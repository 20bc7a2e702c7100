//! What was measured on, and what else it was doing.

use bytesize::ByteSize;
use serde::Serialize;
use std::fs;

/// Facts about this machine that a number is worth nothing without.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    pub(crate) virtual_machine: bool,
    pub(crate) huge_pages: String,
    pub(crate) build: &'static str,
    pub(crate) farptr: &'static str,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Machine {
            processor: processor(&cpuinfo),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: field(&meminfo, "MemTotal").and_then(kib).unwrap_or(0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
            virtual_machine: cpuinfo.contains(" hypervisor"),
            huge_pages: fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default().trim().into(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            farptr: env!("CARGO_PKG_VERSION"),
        }
    }

    /// In one line.
    pub(crate) fn describe(&self) -> String {
        let machine = if self.virtual_machine { "a virtual machine" } else { "a machine" };
        format!(
            "{machine} with {} processors ({}) and {}, Linux {}",
            self.processors,
            self.processor,
            ByteSize::b(self.memory_bytes),
            self.kernel
        )
    }
}

/// What else runs: processes that wanted a processor in the last minute, on average.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// Bytes of memory that can be had without swapping.
pub(crate) fn available_bytes() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    field(&meminfo, "MemAvailable").and_then(kib).unwrap_or(0)
}

/// The model, or where there is none to speak of, vendor and numbers.
fn processor(cpuinfo: &str) -> String {
    let get = |name| field(cpuinfo, name).unwrap_or("unknown");
    match field(cpuinfo, "model name") {
        Some(name) => format!("{name}, family {} model {}", get("cpu family"), get("model")),
        None => "unknown".into(),
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

fn kib(value: &str) -> Option<u64> {
    Some(value.strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_found_among_others() {
        let info = "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 167\nmodel name\t: Some Processor\n";
        assert_eq!(processor(info), "Some Processor, family 6 model 167");
        assert_eq!(field("MemTotal:  2048 kB\n", "MemTotal").and_then(kib), Some(2 << 20));
    }

    #[test]
    fn this_machine_has_processors_and_memory() {
        let machine = Machine::this();
        assert!(machine.processors > 0 && machine.memory_bytes > 0 && available_bytes() > 0, "{machine:?}");
    }
}
