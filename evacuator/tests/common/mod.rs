//! What the tests of this crate share: memories that nothing evacuates yet, and objects, whose contents don't matter.

use farptr_runtime::addr::SlotId;
use farptr_runtime::far::Server;
use farptr_runtime::memory::{Memory, MemoryConfig, Origin};
use farptr_runtime::slot::UnitClass;
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use std::alloc::Layout;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn memory(local_budget: usize) -> Arc<Memory> {
    let config = EmbeddedConfig { capacity: 8 << 20, slab_bytes: 1 << 20 };
    let server = Server::new(Arc::new(EmbeddedTransport::new(config).unwrap()));
    let config = MemoryConfig { local_budget, shards: 1, timeout: Duration::from_secs(5), far_capacity: config.capacity };
    Memory::new(config, vec![server]).unwrap()
}

/// A new object.
pub(crate) fn object(memory: &Arc<Memory>, layout: Layout) -> SlotId {
    let object = memory.alloc_slots(UnitClass::One).unwrap();
    memory.new_object(object, layout, Origin::New).unwrap().publish(memory.slot(object));
    object
}
