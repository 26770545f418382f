//! What the earlier requests of a call have named already.

use std::hash::Hash;

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use crate::address::Grant;
use crate::operation::{Request, Text, Want};

/// So many are looked through more quickly than hashed.
const FEW: usize = 4;

/// A set that costs next to nothing while there is little in it.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    few: SmallVec<[T; FEW]>,
    more: FxHashSet<T>,
}

impl<T: Eq + Hash> Seen<T> {
    /// Nothing was seen yet.
    pub(crate) fn new() -> Seen<T> {
        Seen { few: SmallVec::new(), more: FxHashSet::default() }
    }

    /// Takes note of something; was it new?
    pub(crate) fn insert(&mut self, item: T) -> bool {
        if self.few.contains(&item) {
            return false;
        }
        if self.few.len() < FEW {
            self.few.push(item);
            return true;
        }
        self.more.insert(item)
    }
}

/// The requests met so far in one call.
pub(super) struct Company<'r> {
    pools: Seen<&'r Text>,
    named: Seen<(&'r Text, Grant)>,
}

/// What a request has in common with an earlier one of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Common {
    Nothing,
    Pool,
    /// The pool, and the address asked for.
    Address,
}

impl<'r> Company<'r> {
    pub(super) fn new() -> Company<'r> {
        Company { pools: Seen::new(), named: Seen::new() }
    }

    /// Meets the next request.
    pub(super) fn meet(&mut self, request: &'r Request) -> Common {
        let is_named_anew = match &request.want {
            Want::Named(address) => address.meaning().is_none_or(|grant| self.named.insert((&request.pool, grant))),
            Want::Any | Want::Block(_) => true,
        };
        match (self.pools.insert(&request.pool), is_named_anew) {
            (true, _) => Common::Nothing,
            (false, true) => Common::Pool,
            (false, false) => Common::Address,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Written;
    use crate::scenario::text;

    #[test]
    fn a_set_knows_few_and_many() {
        let mut seen = Seen::new();
        assert!((0..100).all(|number| seen.insert(number)));
        assert!((0..100).all(|number| !seen.insert(number)));
    }

    #[test]
    fn pools_and_addresses_are_met_again() {
        let named =
            |pool: &str, address: &str| Request { pool: text(pool), want: Want::Named(Written::Odd(text(address))) };
        let any = |pool: &str| Request { pool: text(pool), want: Want::Any };
        let requests = [
            any("a"),
            named("b", "fd00::1"),
            named("a", "fd00::1"),
            named("a", "fd00:0::1"),
            named("a", "x"),
            any("c"),
        ];
        let mut company = Company::new();
        let met: Vec<Common> = requests.iter().map(|request| company.meet(request)).collect();
        use Common::{Address, Nothing, Pool};
        assert_eq!(met, [Nothing, Nothing, Pool, Address, Pool, Nothing]);
    }
}
