//! What there is to ask for. A new experiment is a file here, and a line in [`ALL`].

mod ablation;
mod cleaning;
mod compress;
mod deref;
mod evacuate;
mod footprint;
mod hashmap;
mod hitratio;
mod latency;
mod miss;
mod pause;
mod prefetch;
mod scale;
mod scan;
mod startup;
mod swap;
mod transport;
mod webservice;
mod ycsb;

use crate::Outcome;
use crate::bench::Bench;

/// Something that can be asked for by name.
pub(crate) struct Experiment {
    pub(crate) name: &'static str,
    /// What it finds out, in a line.
    pub(crate) about: &'static str,
    /// Its part of the time of all experiments.
    pub(crate) weight: u32,
    pub(crate) run: fn(&mut Bench<'_>) -> Outcome,
}

/// All of them, in the order of the report.
pub(crate) const ALL: &[Experiment] = &[
    deref::EXPERIMENT,
    miss::EXPERIMENT,
    transport::EXPERIMENT,
    scan::EXPERIMENT,
    prefetch::EXPERIMENT,
    swap::EXPERIMENT,
    hashmap::EXPERIMENT,
    hitratio::EXPERIMENT,
    webservice::EXPERIMENT,
    compress::EXPERIMENT,
    pause::EXPERIMENT,
    evacuate::EXPERIMENT,
    cleaning::EXPERIMENT,
    ycsb::EXPERIMENT,
    footprint::EXPERIMENT,
    scale::EXPERIMENT,
    latency::EXPERIMENT,
    ablation::EXPERIMENT,
    startup::EXPERIMENT,
];
