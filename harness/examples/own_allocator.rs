//! An allocator of one's own under test: implement [`Sut`], hand it to an engine.
//!
//! `cargo run --release -p poolproof --example own_allocator`

use std::collections::BTreeMap;
use std::net::IpAddr;

use poolproof::address::Grant;
use poolproof::contract::{Contract, Methods};
use poolproof::engine::Silent;
use poolproof::engine::check::{Budget, Engine, Options, check};
use poolproof::model::layout::Layout;
use poolproof::operation::{Answer, Kind, Method, Operation, Refusal, Request, Response, Want, is_name};
use poolproof::property::Verdict;
use poolproof::report::human;
use poolproof::sut::{Failure, Sut};

/// The allocator: which addresses each pool has, and who holds which.
#[derive(Default)]
struct Mine {
    pools: BTreeMap<String, Layout>,
    held: BTreeMap<(String, IpAddr), String>,
}

impl Mine {
    fn allocate(&mut self, owner: &str, request: &Request) -> Result<IpAddr, Refusal> {
        let pool = self.pools.get(&*request.pool).ok_or(refusal(Kind::NotFound, "no such pool"))?;
        let is_free = |address: &IpAddr| !self.held.contains_key(&(request.pool.to_string(), *address));
        let address = match &request.want {
            Want::Block(_) => return Err(refusal(Kind::Unsupported, "there are no blocks")),
            Want::Named(address) => match address.meaning() {
                // Without the family, `::` would do for 0.0.0.0: the harness found that in this very example.
                Some(grant @ Grant::Address(address)) if grant.family() == pool.family && pool.allows(grant.span()) => {
                    Some(address).filter(is_free).ok_or(refusal(Kind::Conflict, "taken"))?
                }
                _ => return Err(refusal(Kind::Invalid, "not an address of this pool")),
            },
            Want::Any => {
                let all = pool.allocatable.iter().flat_map(|span| span.first..=span.last);
                let free = all.map(|number| pool.family.address(number)).find(is_free);
                free.ok_or(refusal(Kind::Exhausted, "nothing is free"))?
            }
        };
        self.held.insert((request.pool.to_string(), address), owner.to_owned());
        Ok(address)
    }

    fn release(&mut self, pool: &str, address: Option<Grant>, owner: &str) -> Result<(), Refusal> {
        let Some(Grant::Address(address)) = address else { return Err(refusal(Kind::Invalid, "not an address")) };
        let key = (pool.to_owned(), address);
        match self.held.get(&key) {
            None => Err(refusal(Kind::NotFound, "nobody holds it")),
            Some(holder) if holder != owner => Err(refusal(Kind::NotOwner, "somebody else holds it")),
            Some(_) => {
                self.held.remove(&key);
                Ok(())
            }
        }
    }
}

fn refusal(kind: Kind, message: &'static str) -> Refusal {
    Refusal { kind, message: message.into() }
}

/// What stands between the allocator and the harness.
struct Adapter {
    contract: Contract,
    mine: Mine,
}

impl Adapter {
    fn answer(&mut self, operation: &Operation) -> Response {
        match operation {
            Operation::CreatePool { pool, prefix, shape } => {
                let layout = Layout::read(prefix, shape, true).map_err(|why| refusal(Kind::Invalid, why))?;
                if !is_name(pool) {
                    return Err(refusal(Kind::Invalid, "that is no name"));
                }
                if self.mine.pools.contains_key(&**pool) {
                    return Err(refusal(Kind::Conflict, "that pool exists"));
                }
                self.mine.pools.insert(pool.to_string(), layout);
                Ok(Answer::Done)
            }
            // Calls with several requests are not drawn: the contract is not atomic.
            Operation::Allocate { owner, requests, .. } => match &**requests {
                [request] if is_name(owner) => {
                    let address = self.mine.allocate(owner, request)?;
                    Ok(Answer::Granted { grants: [Grant::Address(address)].into_iter().collect(), expires_ms: None })
                }
                _ => Err(refusal(Kind::Invalid, "one request, by an owner with a name")),
            },
            Operation::Release { pool, address, owner: Some(owner) } if is_name(owner) => {
                self.mine.release(pool, address.meaning(), owner).map(|()| Answer::Done)
            }
            Operation::Release { .. } => Err(refusal(Kind::Invalid, "an owner with a name is needed")),
            _ => Err(refusal(Kind::Unsupported, "not in the contract")),
        }
    }
}

impl Sut for Adapter {
    fn contract(&self) -> &Contract {
        &self.contract
    }

    fn reset(&mut self) -> Result<(), Failure> {
        self.mine = Mine::default();
        Ok(())
    }

    fn call(&mut self, operation: &Operation) -> Result<Response, Failure> {
        Ok(self.answer(operation))
    }
}

fn main() {
    let contract = Contract {
        methods: Methods::from_iter([Method::Release]),
        atomic: false,
        disjoint_pools: false,
        ..Contract::default()
    };
    let mut sut = Adapter { contract, mine: Mine::default() };
    let options = Options {
        engine: Engine::Check,
        sut: "mine".to_owned(),
        budget: Budget::Runs(20_000),
        seed: 1,
        max_steps: 60,
        tours: true,
        properties: Vec::new(),
        keep_going: false,
        save: "counterexamples".into(),
    };
    let report = check(&mut sut, &options, &mut Silent).expect("nothing here needs more than memory");
    print!("{}", human::render(&report));
    assert_eq!(report.verdict, Verdict::Pass);
}
