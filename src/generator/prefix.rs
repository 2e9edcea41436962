//! Shared prefixes: a tree of the common prefixes of sorted prompts.

/// A token id of the generator's vocabulary.
pub type Token = i32;

/// A shared prefix: all prompts below this node have the same tokens up to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    pub parent: Option<usize>,
    /// The parent's `end`; 0 at a root.
    pub start: usize,
    pub end: usize,
}

impl Node {
    /// Number of tokens that the node adds to its parent's.
    pub fn n_tokens(&self) -> usize {
        self.end - self.start
    }
}

/// A forest of shared prefixes. Parents come before their children in `nodes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixTree {
    pub nodes: Vec<Node>,
    /// The deepest node of every prompt, if the prompt shares a prefix.
    pub leaf: Vec<Option<usize>>,
}

impl PrefixTree {
    /// Builds the tree. `sorted` has, in lexicographic order, the shareable tokens of every prompt: those before the first token whose
    /// logits are needed. A node has at least two prompts below it and saves at least `saved` tokens of prefill.
    pub fn new<P: AsRef<[Token]>>(sorted: &[P], saved: usize) -> Self {
        let mut tree = PrefixTree { nodes: Vec::new(), leaf: Vec::with_capacity(sorted.len()) };
        let mut intervals = shared_intervals(sorted).into_iter().peekable();
        let mut open: Vec<(usize, usize)> = Vec::new(); // (node, its first prompt that is not below it)
        for prompt in 0..sorted.len() {
            open.retain(|&(_, end)| end > prompt);
            while let Some(interval) = intervals.next_if(|interval| interval.first == prompt) {
                let parent = open.last().map(|&(node, _)| node);
                let start = parent.map_or(0, |node| tree.nodes[node].end);
                if (interval.shared - start) * (interval.end - interval.first - 1) >= saved.max(1) {
                    open.push((tree.nodes.len(), interval.end));
                    tree.nodes.push(Node { parent, start, end: interval.shared });
                }
            }
            tree.leaf.push(open.last().map(|&(node, _)| node));
        }
        tree
    }

    /// The nodes from the root to the deepest node of a prompt.
    pub fn path(&self, prompt: usize) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(self.leaf[prompt], |&node| self.nodes[node].parent).collect();
        path.reverse();
        path
    }
}

/// Prompts `first..end`, and no others, begin with the same `shared` tokens.
struct Interval {
    first: usize,
    end: usize,
    shared: usize,
}

/// The LCP intervals of the sorted prompts, ordered by first prompt, the widest first (Abouelhoda et al. 2004, algorithm 4.4).
fn shared_intervals<P: AsRef<[Token]>>(sorted: &[P]) -> Vec<Interval> {
    let mut intervals = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new(); // (shared, first), shared strictly growing
    for end in 1..=sorted.len() {
        let shared = if end < sorted.len() { common_prefix(sorted[end - 1].as_ref(), sorted[end].as_ref()) } else { 0 };
        let mut first = end - 1;
        while let Some((deeper, deeper_first)) = open.pop_if(|&mut (depth, _)| depth > shared) {
            intervals.push(Interval { first: deeper_first, end, shared: deeper });
            first = deeper_first;
        }
        if shared > open.last().map_or(0, |&(depth, _)| depth) {
            open.push((shared, first));
        }
    }
    intervals.sort_by_key(|interval| (interval.first, interval.shared));
    intervals
}

/// How many tokens two prompts share.
fn common_prefix(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_groups_below_one_instruction() {
        let prompts = [vec![1, 2, 3, 4], vec![1, 2, 3, 4], vec![1, 2, 7, 7], vec![1, 2, 7, 7], vec![5]];
        let tree = PrefixTree::new(&prompts, 2);
        let root = Node { parent: None, start: 0, end: 2 };
        let left = Node { parent: Some(0), start: 2, end: 4 };
        assert_eq!(tree.nodes, vec![root, left, left]);
        assert_eq!(tree.leaf, vec![Some(1), Some(1), Some(2), Some(2), None]);
        assert_eq!(tree.path(3), vec![0, 2]);
    }

    #[test]
    fn short_prefixes_get_no_node() {
        let prompts = [vec![1, 2, 3, 4], vec![1, 2, 3, 5], vec![1, 4, 4, 4]];
        let root = Node { parent: None, start: 0, end: 1 };
        let tree = PrefixTree::new(&prompts, 2);
        assert_eq!(tree.nodes, vec![root, Node { parent: Some(0), start: 1, end: 3 }]);
        assert_eq!(tree.leaf, vec![Some(1), Some(1), Some(0)]);
        let tree = PrefixTree::new(&prompts, 3);
        assert_eq!(tree.nodes, vec![Node { parent: None, start: 0, end: 3 }], "the root saves 2, without it the other saves 3");
        assert_eq!(tree.leaf, vec![Some(0), Some(0), None]);
    }

    proptest! {
        #[test]
        fn every_prompt_below_a_node_has_its_tokens(
            mut prompts in prop::collection::vec(prop::collection::vec(0..3i32, 1..12), 0..40), saved in 1..9usize,
        ) {
            prompts.sort();
            let tree = PrefixTree::new(&prompts, saved);
            prop_assert_eq!(tree.leaf.len(), prompts.len());
            let mut first_below: Vec<Option<usize>> = vec![None; tree.nodes.len()];
            let mut below = vec![0; tree.nodes.len()];
            for (i, prompt) in prompts.iter().enumerate() {
                let mut at = 0;
                for node in tree.path(i) {
                    let Node { start, end, .. } = tree.nodes[node];
                    prop_assert_eq!(start, at);
                    prop_assert!(end > start && end <= prompt.len());
                    let first = *first_below[node].get_or_insert(i);
                    prop_assert_eq!(&prompts[first][..end], &prompt[..end]);
                    below[node] += 1;
                    at = end;
                }
            }
            for (node, &below) in tree.nodes.iter().zip(&below) {
                prop_assert!(below >= 2 && node.n_tokens() * (below - 1) >= saved);
            }
        }

        #[test]
        fn equal_neighbours_share_everything(prompt in prop::collection::vec(0..9i32, 2..20), copies in 2..9usize) {
            let tree = PrefixTree::new(&vec![prompt.clone(); copies], 1);
            prop_assert_eq!(tree.nodes, vec![Node { parent: None, start: 0, end: prompt.len() }]);
        }
    }
}
