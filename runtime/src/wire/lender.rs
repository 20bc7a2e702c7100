//! What all of a lender's connections share: the slabs, and who the borrowers are.
#![forbid(unsafe_code)]

use super::ending::Ending;
use super::frame::{BorrowerToken, Intent};
use super::offers::{Identity, Offers, Ways};
use crate::slab::{BorrowerId, Sharing, SlabStore};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The slabs of a server and the borrowers it knows.
#[derive(Debug)]
pub struct Lender {
    store: SlabStore,
    /// `None` if the system had no random bytes for its identity.
    offers: Option<Offers>,
    borrowers: Mutex<HashMap<BorrowerToken, Known>>,
}

#[derive(Debug)]
struct Known {
    id: BorrowerId,
    connections: usize,
}

impl Lender {
    /// A lender of `store`'s slabs, without borrowers, and with no way to it that could be told of.
    pub fn new(store: SlabStore) -> Arc<Self> {
        Self::offering(store, Ways::default())
    }

    /// A lender of `store`'s slabs, without borrowers, that tells of these ways to it.
    pub fn offering(store: SlabStore, ways: Ways) -> Arc<Self> {
        let offers = random().ok().map(|bytes| Offers { identity: Identity(bytes), ways });
        Arc::new(Self { store, offers, borrowers: Mutex::default() })
    }

    /// What it tells who asks.
    pub fn offers(&self) -> Option<&Offers> {
        self.offers.as_ref()
    }

    /// The slabs.
    pub fn store(&self) -> &SlabStore {
        &self.store
    }

    /// How many borrowers there are.
    pub fn borrowers(&self) -> usize {
        self.known().len()
    }

    /// Lets a connection in.
    pub(super) fn admit(self: &Arc<Self>, intent: Intent) -> Result<Membership, Ending> {
        let mut known = self.known();
        let (token, id) = match intent {
            // Whoever maps the one file that all slabs lie in can touch all of them.
            Intent::New if self.store.sharing() == Some(Sharing::Whole) && !known.is_empty() => return Err(Ending::Taken),
            Intent::New => {
                let (token, id) = (BorrowerToken(random()?), self.store.register());
                known.insert(token, Known { id, connections: 1 });
                (token, id)
            }
            Intent::Join(token) => {
                let borrower = known.get_mut(&token).ok_or(Ending::UnknownBorrower)?;
                borrower.connections += 1;
                (token, borrower.id)
            }
        };
        Ok(Membership { lender: self.clone(), token, id })
    }

    fn leave(&self, token: BorrowerToken, id: BorrowerId) {
        {
            let mut known = self.known();
            let Some(borrower) = known.get_mut(&token) else { return };
            borrower.connections -= 1;
            if borrower.connections > 0 {
                return;
            }
            known.remove(&token);
        }
        // Nobody can join it any more, so it borrows nothing more.
        let slabs = self.store.take_back_all(id);
        tracing::info!(borrower = ?id, slabs, "borrower gone, slabs taken back");
    }

    fn known(&self) -> MutexGuard<'_, HashMap<BorrowerToken, Known>> {
        self.borrowers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 128 bits that nobody else has.
fn random() -> Result<[u8; 16], Ending> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "no random bytes for a token");
        Ending::Internal
    })?;
    Ok(bytes)
}

/// One connection's membership of a borrower. When the last one is dropped, the borrower's slabs are taken back.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) lender: Arc<Lender>,
    pub(super) token: BorrowerToken,
    pub(super) id: BorrowerId,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.lender.leave(self.token, self.id);
    }
}
