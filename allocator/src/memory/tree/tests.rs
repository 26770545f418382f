use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

struct Table(Vec<Span>);

impl Spans for Table {
    fn span(&self, slot: u32) -> Span {
        self.0[slot as usize]
    }
}

/// What the tree should be: the taken spans, ascending.
struct Model {
    bounds: Span,
    taken: Vec<(Span, u32)>,
}

impl Model {
    fn insert(&mut self, span: Span, slot: u32) -> bool {
        let free = self.is_free(span);
        if free {
            self.taken.push((span, slot));
            self.taken.sort_by_key(|(span, _)| span.first());
        }
        free
    }

    fn remove(&mut self, slot: u32) -> bool {
        let before = self.taken.len();
        self.taken.retain(|(_, taken)| *taken != slot);
        self.taken.len() < before
    }

    fn at(&self, address: u128) -> Option<u32> {
        let mut taken = self.taken.iter();
        taken.find(|(span, _)| span.first() <= address && address <= span.last()).map(|taken| taken.1)
    }

    fn taken_from(&self, address: u128) -> Vec<u32> {
        let taken = self.taken.iter().filter(|(span, _)| span.last() >= address);
        taken.map(|(_, slot)| *slot).collect()
    }

    fn is_free(&self, span: Span) -> bool {
        let inside = self.bounds.first() <= span.first() && span.last() <= self.bounds.last();
        inside && !self.taken.iter().any(|(taken, _)| taken.first() <= span.last() && span.first() <= taken.last())
    }

    /// The free runs, each as first and last.
    fn runs(&self) -> Vec<(u128, u128)> {
        let mut runs = Vec::new();
        let mut next = Some(self.bounds.first());
        for (span, _) in &self.taken {
            let first = next.expect("something is taken behind the end");
            if first < span.first() {
                runs.push((first, span.first() - 1));
            }
            next = span.last().checked_add(1);
        }
        if let Some(first) = next
            && first <= self.bounds.last()
        {
            runs.push((first, self.bounds.last()));
        }
        runs
    }
}

fn nth_free(runs: &[(u128, u128)], mut n: u128) -> Option<u128> {
    for (first, last) in runs {
        if n <= last - first {
            return Some(first + n);
        }
        n -= last - first;
        n -= 1;
    }
    None
}

fn free(runs: &[(u128, u128)]) -> u128 {
    runs.iter().fold(0, |sum: u128, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
}

fn free_block(runs: &[(u128, u128)], bits: u8, from: u128) -> Option<u128> {
    runs.iter().find_map(|(first, last)| {
        let first = *first.max(&from);
        if first > *last {
            return None;
        }
        if bits == 128 {
            return (first == 0 && *last == u128::MAX).then_some(0);
        }
        let size = 1 << bits;
        let start = first.div_ceil(size).checked_mul(size)?;
        (start <= *last && last - start >= size - 1).then_some(start)
    })
}

/// As the one above, but tries each address.
fn free_block_by_steps(model: &Model, bits: u8, from: u128) -> Option<u128> {
    let size = 1_u128.checked_shl(bits.into())?;
    (from.max(model.bounds.first())..=model.bounds.last()).find(|start| {
        let span = start.checked_add(size - 1).and_then(|last| Span::new(*start, last));
        start % size == 0 && span.is_some_and(|span| model.is_free(span))
    })
}

fn same<T: PartialEq + Debug>(what: &str, of: impl Debug, is: T, should: T) {
    assert!(is == should, "{what} of {of:?} is {is:?} and should be {should:?}");
}

/// Compares every answer, for all the addresses.
fn compare<const N: usize>(tree: &SizedTree<N>, table: &Table, model: &Model, addresses: &[u128], bits: &[u8]) {
    let runs = model.runs();
    let all: Vec<u32> = model.taken.iter().map(|taken| taken.1).collect();
    same("iter", "tree", tree.iter().collect(), all);
    same("free", "tree", tree.free(), free(&runs));
    for &address in addresses {
        same("at", address, tree.at(table, address), model.at(address));
        let taken = model.taken_from(address);
        same("taken_from", address, tree.taken_from(table, address), taken.first().copied());
        same("iter_from", address, tree.iter_from(table, address).collect(), taken);
        let from = free_block(&runs, 0, address);
        same("free_from", address, tree.free_from(table, address), from);
        for &bits in bits {
            let block = free_block(&runs, bits, address);
            same("free_block", (bits, address), tree.free_block(table, bits, address), block);
        }
        // Counts as well as addresses: from the start and from the end.
        for n in [address, address.wrapping_sub(model.bounds.first()), free(&runs).wrapping_sub(address)] {
            same("nth_free", n, tree.nth_free(table, n), nth_free(&runs, n));
        }
        for &other in addresses {
            if let Some(span) = Span::new(address, other) {
                same("is_free", span, tree.is_free(table, span), model.is_free(span));
            }
        }
    }
}

/// Computes anew whatever is kept, and checks the shape.
fn check<const N: usize>(tree: &SizedTree<N>, table: &Table) {
    let root = &tree.root;
    if let Below::Inner(inner) = &root.below {
        assert!(inner.len() > 1, "a root with one child");
    }
    check_node(root, table, tree.bounds.last(), true, true);
}

/// The depth.
fn check_node<const N: usize>(node: &Node<N>, table: &Table, last: u128, root: bool, end: bool) -> usize {
    let least = if root {
        0
    } else if end {
        1
    } else {
        Node::<N>::LEAST
    };
    assert!(node.len() >= least && node.len() <= N, "length {}", node.len());
    assert_eq!(node.first, node.find_first(table), "first");
    match &node.below {
        Below::Leaf(leaf) => {
            leaf.check(table);
            let spans: Vec<Span> = leaf.entries().iter().map(|entry| table.span(entry.slot)).collect();
            let taken = spans.iter().fold(0, |sum: u128, span| sum.wrapping_add(span.count()));
            assert_eq!(node.taken, taken, "taken in a leaf");
            let mut most = 0;
            for (index, entry) in leaf.entries().iter().enumerate() {
                let end = spans.get(index + 1).map_or(last, |next| next.first() - 1);
                assert!(spans[index].last() <= end, "order");
                let runs = spans[index].last().checked_add(1).map(|first| (first, end));
                let runs: Vec<_> = runs.into_iter().filter(|(first, last)| first <= last).collect();
                let room = (0..=128).rev().find(|bits| free_block(&runs, *bits, 0).is_some());
                assert_eq!(entry.room(), room.map_or(0, |order| order + 1), "room of an entry");
                most = most.max(entry.room());
            }
            assert_eq!(node.room, most, "room of a leaf");
            0
        }
        Below::Inner(inner) => {
            inner.check();
            let children = inner.children();
            let taken = children.iter().fold(0, |sum: u128, child| sum.wrapping_add(child.taken));
            assert_eq!(node.taken, taken, "taken in an inner node");
            assert_eq!(node.room, children.iter().map(|child| child.room).max().unwrap(), "room");
            let mut depths = children.iter().enumerate().map(|(index, child)| {
                let end = end && index + 1 == children.len();
                check_node(child, table, inner.last_of(index, last), false, end)
            });
            let depth = depths.next().unwrap();
            assert!(depths.all(|other| other == depth), "depth");
            depth + 1
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Span),
    /// Takes the first free address from there, as often as that.
    Fill(u128, u8),
    /// Takes the last free addresses, descending.
    FillDown(u8),
    Remove(usize),
    /// Removes that many beginning with the nth.
    RemoveRow(usize, u8),
    RemoveUnknown(Span),
}

struct Run<const N: usize> {
    tree: SizedTree<N>,
    table: Table,
    model: Model,
}

impl<const N: usize> Run<N> {
    fn new(bounds: Span) -> Self {
        let model = Model { bounds, taken: Vec::new() };
        Self { tree: SizedTree::new(bounds), table: Table(Vec::new()), model }
    }

    fn insert(&mut self, span: Span) {
        let slot = self.table.0.len() as u32;
        self.table.0.push(span);
        let inserted = self.tree.insert(&self.table, slot);
        same("insert", span, inserted, self.model.insert(span, slot));
    }

    fn remove(&mut self, n: usize) {
        if let Some((_, slot)) = self.model.taken.get(n % self.model.taken.len().max(1)).copied() {
            assert!(self.tree.remove(&self.table, slot), "remove");
            assert!(!self.tree.remove(&self.table, slot), "remove again");
            self.model.remove(slot);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Insert(span) => self.insert(span),
            Step::Fill(from, count) => {
                for _ in 0..count {
                    let Some(address) = self.tree.free_from(&self.table, from) else {
                        break;
                    };
                    self.insert(Span::single(address));
                }
            }
            Step::FillDown(count) => {
                for _ in 0..count {
                    let Some((_, last)) = self.model.runs().pop() else {
                        break;
                    };
                    self.insert(Span::single(last));
                }
            }
            Step::Remove(n) => self.remove(n),
            Step::RemoveRow(n, count) => {
                for _ in 0..count {
                    self.remove(n);
                }
            }
            Step::RemoveUnknown(span) => {
                self.table.0.push(span);
                assert!(!self.tree.remove(&self.table, self.table.0.len() as u32 - 1));
            }
        }
    }
}

/// Steps with spans whose ends are such addresses and whose lengths are such.
fn steps(address: BoxedStrategy<u128>, length: BoxedStrategy<u128>) -> impl Strategy<Value = Vec<Step>> {
    let span =
        (address.clone(), length).prop_map(|(first, length)| Span::new(first, first.saturating_add(length)).unwrap());
    vec(
        prop_oneof![
            6 => span.clone().prop_map(Step::Insert),
            2 => (address, 1..12_u8).prop_map(|(from, count)| Step::Fill(from, count)),
            1 => (1..8_u8).prop_map(Step::FillDown),
            4 => any::<usize>().prop_map(Step::Remove),
            2 => (any::<usize>(), 1..12_u8).prop_map(|(n, count)| Step::RemoveRow(n, count)),
            1 => span.prop_map(Step::RemoveUnknown),
        ],
        1..40,
    )
}

const FEW_BITS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 128];

/// 64 addresses or fewer, beginning at `base`.
fn small(base: u128, size: u128, steps: &[Step]) {
    let bounds = Span::new(base, base + (size - 1)).unwrap();
    let mut addresses: Vec<u128> = (0..size).map(|n| base + n).collect();
    addresses.extend([0, base.saturating_sub(1), bounds.last().saturating_add(1), u128::MAX]);
    let mut run = Run::<4>::new(bounds);
    for step in steps {
        run.step(step);
        check(&run.tree, &run.table);
        compare(&run.tree, &run.table, &run.model, &addresses, &FEW_BITS);
    }
    for bits in 0..7 {
        for address in &addresses {
            let block = free_block_by_steps(&run.model, bits, *address);
            same("free_block", (bits, address), run.tree.free_block(&run.table, bits, *address), block);
        }
    }
}

/// Some addresses beside the ends of the taken spans.
fn near(model: &Model) -> Vec<u128> {
    let mut addresses = vec![0, 1, u128::MAX - 1, u128::MAX, model.bounds.first(), model.bounds.last()];
    for (span, _) in &model.taken {
        addresses.extend([span.first(), span.first().wrapping_sub(1), span.last(), span.last().wrapping_add(1)]);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn clustered() -> BoxedStrategy<u128> {
    let base = prop_oneof![
        3 => Just(0),
        1 => Just(1_u128 << 32),
        1 => Just((1_u128 << 64) - 20),
        1 => Just((1_u128 << 127) - 20),
        1 => (0..128_u32).prop_map(|bits| 1 << bits),
        3 => Just(u128::MAX - 40),
    ];
    let offset = prop_oneof![4 => 0..41_u128, 1 => (0..100_u32).prop_map(|bits| 1 << bits)];
    (base, offset).prop_map(|(base, offset)| base.saturating_add(offset)).boxed()
}

fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn bottom(size in 1..65_u128, steps in steps((0..64_u128).boxed(), prop_oneof![3 => Just(0), 1 => 0..8_u128].boxed())) {
        small(0, size, &steps);
    }

    #[test]
    fn top(size in 1..65_u128, steps in steps((0..64_u128).prop_map(|n| u128::MAX - n).boxed(), prop_oneof![3 => Just(0), 1 => 0..8_u128].boxed())) {
        small(u128::MAX - (size - 1), size, &steps);
    }

    #[test]
    fn whole(steps in steps(clustered(), prop_oneof![8 => Just(0), 4 => 0..8_u128, 1 => (0..128_u32).prop_map(|bits| (1 << bits) - 1)].boxed())) {
        let mut run = Run::<4>::new(Span::new(0, u128::MAX).unwrap());
        let bits = [0, 1, 2, 3, 5, 24, 31, 32, 63, 64, 65, 100, 126, 127, 128, 129];
        for step in &steps {
            run.step(step);
            check(&run.tree, &run.table);
            let mut bits = bits.to_vec();
            bits.retain(|bits| *bits <= 128);
            compare(&run.tree, &run.table, &run.model, &near(&run.model), &bits);
        }
    }
}

#[test]
fn whole_space_in_one_span() {
    let whole = Span::new(0, u128::MAX).unwrap();
    let mut tree = Tree::new(whole);
    let table = Table(vec![whole, Span::new(0, u128::MAX >> 1).unwrap(), Span::new(1 << 127, u128::MAX).unwrap()]);
    assert_eq!(tree.free(), u128::MAX);
    assert_eq!(tree.nth_free(&table, u128::MAX), Some(u128::MAX));
    assert_eq!(tree.free_block(&table, 128, 0), Some(0));
    assert_eq!(tree.free_block(&table, 128, 1), None);
    assert_eq!(tree.free_block(&table, 129, 0), None);
    assert!(tree.insert(&table, 0) && !tree.insert(&table, 1));
    assert_eq!((tree.free(), tree.nth_free(&table, 0)), (0, None));
    assert!(tree.remove(&table, 0) && tree.insert(&table, 2) && tree.insert(&table, 1));
    assert_eq!((tree.free(), tree.free_from(&table, 0)), (0, None));
    check(&tree, &table);
}

/// A generator for long runs (splitmix).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// Grows and shrinks a tree of the real size.
fn long(bounds: Span, mut address: impl FnMut(&mut Random) -> u128) {
    let mut random = Random(7);
    let mut run = Run::<63>::new(bounds);
    for turn in 0..12_000_u32 {
        let growing = turn / 3000 % 2 == 0;
        match random.below(10) {
            0 => {
                run.insert(Span::new(address(&mut random), bounds.last()).filter(|_| turn % 50 == 0).unwrap_or(bounds))
            }
            1 => {
                if let Some(address) = run.tree.free_from(&run.table, address(&mut random)) {
                    run.insert(Span::single(address));
                }
            }
            2..7 if growing => {
                let first = address(&mut random);
                let last = first.saturating_add(u128::from(random.below(3))).min(bounds.last());
                run.insert(Span::new(first, last).unwrap());
            }
            _ if growing && turn % 4 > 0 => run.insert(Span::single(address(&mut random))),
            _ => {
                let n = random.below(1 << 40) as usize;
                run.remove(n);
                if !growing {
                    run.remove(n);
                }
            }
        }
        if turn % 100 == 0 {
            check(&run.tree, &run.table);
            let runs = run.model.runs();
            for _ in 0..50 {
                let (from, bits) = (address(&mut random), random.below(34) as u8);
                let block = free_block(&runs, bits, from);
                same("free_block", (bits, from), run.tree.free_block(&run.table, bits, from), block);
                same("nth_free", from, run.tree.nth_free(&run.table, from), nth_free(&runs, from));
                same("at", from, run.tree.at(&run.table, from), run.model.at(from));
                let n = u128::from(random.below(5000)).min(free(&runs));
                same("nth_free", n, run.tree.nth_free(&run.table, n), nth_free(&runs, n));
                let taken = run.model.taken_from(from).first().copied();
                same("taken_from", from, run.tree.taken_from(&run.table, from), taken);
            }
            same("free", "tree", run.tree.free(), free(&runs));
            assert!(run.tree.iter().eq(run.model.taken.iter().map(|taken| taken.1)));
        }
    }
    while !run.model.taken.is_empty() {
        run.remove(random.below(1 << 40) as usize);
    }
    check(&run.tree, &run.table);
    assert!(run.tree.root.len() == 0 && matches!(run.tree.root.below, Below::Leaf(_)));
}

#[test]
fn long_dense() {
    long(Span::new(1000, 8999).unwrap(), |random| 1000 + u128::from(random.below(8000)));
}

#[test]
fn long_sparse() {
    let base = 0x2001_0db8_u128 << 96;
    let bounds = Span::new(base, base + u128::from(u64::MAX)).unwrap();
    long(bounds, |random| base + u128::from(random.below(u64::MAX)));
}

/// The usual case leaves full leaves behind, with the end of the space taken or not.
#[test]
fn ascending_fills_leaves() {
    for reserved in [false, true] {
        let mut run = Run::<63>::new(Span::new(0, 19_999).unwrap());
        if reserved {
            run.insert(Span::single(19_999));
        }
        for address in 0..10_000 {
            run.insert(Span::single(address));
        }
        check(&run.tree, &run.table);
        let leaves = leaves(&run.tree.root);
        assert!(leaves <= 10_000 / 61, "{leaves} leaves");
    }
}

fn leaves<const N: usize>(node: &Node<N>) -> usize {
    match &node.below {
        Below::Leaf(_) => 1,
        Below::Inner(inner) => inner.children().iter().map(leaves).sum(),
    }
}
