//! What a system has hold of while it waits for its next call.

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Open files, sockets and pipes included.
    Files,
    /// Locks on files. An open transaction or statement of a database holds one.
    Locks,
    /// Threads.
    Threads,
    /// Processes that it has started, those included that have ended and nobody has waited for.
    Children,
    /// Files in the system's own folders, for temporary ones and for its state.
    Left,
    /// Memory in use, in KiB.
    Memory,
}

impl Resource {
    /// All kinds.
    pub const ALL: [Resource; 6] =
        [Resource::Files, Resource::Locks, Resource::Threads, Resource::Children, Resource::Left, Resource::Memory];

    /// What they are called.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Files => "open files",
            Resource::Locks => "locks on files",
            Resource::Threads => "threads",
            Resource::Children => "processes of its own",
            Resource::Left => "files in its folders",
            Resource::Memory => "KiB of memory",
        }
    }
}

/// So many of each kind; `None` where that cannot be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources([Option<u64>; Resource::ALL.len()]);

impl Resources {
    /// Nothing can be counted.
    pub const UNKNOWN: Resources = Resources([None; Resource::ALL.len()]);

    /// The same with this count of one kind.
    pub fn with(mut self, kind: Resource, count: Option<u64>) -> Resources {
        self.0[kind as usize] = count;
        self
    }

    /// How many there are.
    pub fn count(&self, kind: Resource) -> Option<u64> {
        self.0[kind as usize]
    }

    /// Are there more of a kind than before, as far as both are known?
    pub fn has_more(&self, kind: Resource, before: &Resources) -> bool {
        self.count(kind).zip(before.count(kind)).is_some_and(|(now, before)| now > before)
    }
}

/// Kinds of resources that grow, again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Growth {
    last: Resources,
    streaks: [u32; Resource::ALL.len()],
}

impl Growth {
    /// From these counts on.
    pub fn since(last: Resources) -> Growth {
        Growth { last, streaks: [0; Resource::ALL.len()] }
    }

    /// Does anything grow at present?
    pub fn is_under_way(&self) -> bool {
        self.streaks.iter().any(|streak| *streak > 0)
    }

    /// Goes on from these counts, whatever grew on the way to them.
    pub fn pass_over(&mut self, now: Resources) {
        self.last = now;
    }

    /// Notes what there is now.
    pub fn note(&mut self, now: Resources) {
        for kind in Resource::ALL {
            let streak = &mut self.streaks[kind as usize];
            *streak = if now.has_more(kind, &self.last) { *streak + 1 } else { 0 };
        }
        self.last = now;
    }

    /// A kind that has grown so many times in a row.
    pub fn steady(&self, times: u32) -> Option<Resource> {
        Resource::ALL.into_iter().find(|kind| self.streaks[*kind as usize] >= times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(count: u64) -> Resources {
        Resources::UNKNOWN.with(Resource::Files, Some(count))
    }

    #[test]
    fn only_what_grows_each_time_is_no_accident() {
        let mut growth = Growth::since(files(3));
        for count in [4, 5, 6, 6, 7, 8, 9] {
            growth.note(files(count));
            assert_eq!(growth.steady(4), None);
        }
        growth.note(files(10));
        assert_eq!(growth.steady(4), Some(Resource::Files));
    }

    #[test]
    fn what_is_passed_over_does_not_count() {
        let mut growth = Growth::since(files(3));
        [4, 5, 6].into_iter().for_each(|count| growth.note(files(count)));
        growth.pass_over(files(9));
        growth.note(files(9));
        assert!(growth.steady(4).is_none() && !growth.is_under_way());
    }

    #[test]
    fn what_is_unknown_does_not_grow() {
        let mut growth = Growth::since(files(3));
        (0..9).for_each(|_| growth.note(Resources::UNKNOWN));
        assert_eq!(growth.steady(1), None);
    }
}
