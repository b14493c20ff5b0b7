//! In what order tensors are asked for: the walk of the network, round and round.

/// The walk: a cyclic list of tensors, and where in it the network is.
///
/// Every token asks for all matrices in the same order, so that the use of a tensor which lies furthest ahead is
/// known. A list that was given is kept; otherwise the list is the stored order until the network has gone round
/// once, then what it asked for on its last round (tensors within one layer are stored by name, not by use; tables
/// that are read by rows are never asked for whole; which experts are used changes).
#[derive(Debug)]
pub(super) struct Order {
    walk: Vec<usize>,
    /// Places of tensor `t` in the walk: `places[starts[t]..starts[t + 1]]`, ascending.
    starts: Vec<usize>,
    places: Vec<usize>,
    /// Place of the next use.
    cursor: usize,
    /// What was asked for since the round began, where the walk is learned.
    log: Option<Vec<usize>>,
}

impl Order {
    /// A walk over `tensors` tensors; `learned` where the walk given is only the first guess.
    pub(super) fn new(walk: Vec<usize>, tensors: usize, learned: bool) -> Self {
        let log = learned.then(Vec::new);
        let mut order = Self { walk, starts: vec![0; tensors + 1], places: Vec::new(), cursor: 0, log };
        order.index();
        order
    }

    fn index(&mut self) {
        self.starts.fill(0);
        for &tensor in &self.walk {
            self.starts[tensor + 1] += 1;
        }
        for i in 1..self.starts.len() {
            self.starts[i] += self.starts[i - 1];
        }
        self.places.clear();
        self.places.resize(self.walk.len(), 0);
        let mut next = self.starts.clone();
        for (place, &tensor) in self.walk.iter().enumerate() {
            self.places[next[tensor]] = place;
            next[tensor] += 1;
        }
    }

    /// Uses of other tensors before `tensor` is used; none where the walk does not name it.
    pub(super) fn distance(&self, tensor: usize) -> Option<usize> {
        let places = &self.places[self.starts[tensor]..self.starts[tensor + 1]];
        let next = places.partition_point(|&place| place < self.cursor);
        match places.get(next) {
            Some(place) => Some(place - self.cursor),
            None => places.first().map(|place| place + self.walk.len() - self.cursor),
        }
    }

    /// Notes that `tensor` is asked for.
    pub(super) fn advance(&mut self, tensor: usize) {
        self.learn(tensor);
        // More than half a round ahead is a step back: a matrix that is asked for later than its place says.
        if let Some(distance) = self.distance(tensor).filter(|distance| 2 * distance <= self.walk.len()) {
            self.cursor = (self.cursor + distance + 1) % self.walk.len();
        }
    }

    fn learn(&mut self, tensor: usize) {
        let tensors = self.starts.len() - 1;
        let Some(log) = &mut self.log else { return };
        if log.last() == Some(&tensor) {
            return;
        }
        if log.first() == Some(&tensor) {
            if *log != self.walk {
                self.walk = std::mem::take(log);
                self.index();
            }
            self.cursor = 0;
            self.log.as_mut().into_iter().for_each(Vec::clear);
        } else if log.len() > 2 * tensors {
            // The first tensor of this round is not asked for again: begin another round here.
            log.clear();
        }
        self.log.as_mut().into_iter().for_each(|log| log.push(tensor));
    }

    /// The tensors that are used next, the nearest first, at most one round of them.
    pub(super) fn ahead(&self) -> impl Iterator<Item = usize> {
        let (passed, coming) = self.walk.split_at(self.cursor.min(self.walk.len()));
        coming.iter().chain(passed).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_go_round() {
        let mut order = Order::new(vec![2, 0, 1, 0], 4, false);
        assert_eq!([0, 1, 2, 3].map(|t| order.distance(t)), [Some(1), Some(2), Some(0), None]);
        order.advance(2);
        order.advance(0);
        assert_eq!([0, 1, 2, 3].map(|t| order.distance(t)), [Some(1), Some(0), Some(2), None]);
        assert_eq!(order.ahead().collect::<Vec<_>>(), [1, 0, 2, 0]);
        order.advance(1);
        order.advance(0);
        assert_eq!(order.distance(2), Some(0), "the last is followed by the first");
        order.advance(3);
        assert_eq!(order.distance(2), Some(0), "a tensor outside of the walk moves nothing");
    }

    #[test]
    fn a_step_back_is_no_round() {
        let mut order = Order::new((0..10).collect(), 10, false);
        for tensor in [0, 1, 4, 3, 2] {
            order.advance(tensor);
        }
        assert_eq!(order.distance(5), Some(0));
        // A walk that begins anew in the middle is followed from where it meets the cursor.
        (0..6).for_each(|tensor| order.advance(tensor));
        assert_eq!(order.distance(6), Some(0));
    }

    #[test]
    fn the_walk_is_learned_in_one_round() {
        let mut order = Order::new((0..8).collect(), 8, true);
        let walk = [3, 1, 2, 2, 6, 5];
        walk.iter().chain(&walk).chain(&walk[..2]).for_each(|&tensor| order.advance(tensor));
        assert_eq!(order.ahead().collect::<Vec<_>>(), [2, 6, 5, 3, 1], "repeats in a row are one use");
        assert_eq!(order.distance(0), None, "what was not asked for is not expected");
        // Something that was asked for once, before the rounds, does not stop learning.
        let mut order = Order::new((0..8).collect(), 8, true);
        order.advance(7);
        (0..30).for_each(|i| order.advance(walk[i % walk.len()]));
        assert_eq!(order.distance(7), None);
        assert_eq!(order.walk.len(), 5);
    }
}
