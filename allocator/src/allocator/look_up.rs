//! What is held, by address, by owner, page by page.

use std::net::IpAddr;

use super::{Allocator, check_name, find_pool};
use crate::error::Result;
use crate::resource::Resource;
use crate::store::{Allocation, Filter, Place, Store};

/// Where a listing goes on. It stays valid whatever happens in between: what is held all the while is listed just once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor(Place);

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Pools in the order of their creation, addresses ascending.
    pub allocations: Vec<Allocation>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Cursor>,
}

impl<S: Store> Allocator<S> {
    /// The allocation that holds an address, be it by a block. O(log n).
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound) for a pool; [`Error::Invalid`](crate::Error::Invalid) for an address
    /// outside its prefix.
    pub fn find(&mut self, pool: &str, address: IpAddr) -> Result<Option<Allocation>> {
        self.read(|store| {
            let pool = find_pool(store, pool)?;
            let extent = pool.prefix.locate(Resource::Address(address))?;
            store.find(pool.id, extent.first())
        })
    }

    /// What an owner holds: pools in the order of their creation, addresses ascending. O(k log n) in what it holds.
    ///
    /// # Errors
    ///
    /// None but those of every call.
    pub fn find_owner(&mut self, owner: &str) -> Result<Vec<Allocation>> {
        check_name(owner)?;
        self.read(|store| Ok(allocations(store.list(Filter::Owner(owner))?)))
    }

    /// All allocations of a pool, or of all pools in the order of their creation; addresses ascending. O(n) in what it
    /// returns.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound) for a pool.
    pub fn list(&mut self, pool: Option<&str>) -> Result<Vec<Allocation>> {
        self.list_page(pool, None, usize::MAX).map(|page| page.allocations)
    }

    /// At most `most` allocations of a pool, or of all pools, from the cursor of the last page on. For a pool, the cursor
    /// of another one, be it a former one of that name, begins anew. O(log n) and what it returns.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`](crate::Error::NotFound) for a pool.
    pub fn list_page(&mut self, pool: Option<&str>, cursor: Option<Cursor>, most: usize) -> Result<Page> {
        self.read(|store| {
            let from = cursor.map(|Cursor(place)| place);
            // One more tells whether there is another page.
            let limit = most.saturating_add(1);
            let filter = match pool {
                Some(name) => {
                    let pool = find_pool(store, name)?.id;
                    let from = from.filter(|place| place.pool == pool);
                    Filter::Pool(pool, from.map_or(0, |place| place.address), limit)
                }
                None => Filter::From(from.unwrap_or(Place::FIRST), limit),
            };
            let mut listed = store.list(filter)?;
            let next = listed.get(most).map(|(place, _)| Cursor(*place));
            listed.truncate(most);
            Ok(Page { allocations: allocations(listed), next })
        })
    }
}

fn allocations(listed: Vec<(Place, Allocation)>) -> Vec<Allocation> {
    listed.into_iter().map(|(_, allocation)| allocation).collect()
}
