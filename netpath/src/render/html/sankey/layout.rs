//! Where the nodes and ribbons of a Sankey picture go: heights are in proportion to bytes. Pure.

/// A box of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// From 0, left to right.
    pub column: usize,
    /// Its name.
    pub label: String,
    /// Its height.
    pub bytes: u64,
}

/// From a node to one of the next column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index of the node at the left.
    pub from: usize,
    /// Index of the node at the right.
    pub to: usize,
    /// Its height.
    pub bytes: u64,
}

/// A link, placed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ribbon {
    /// Its top at the left.
    pub from: f64,
    /// Its top at the right.
    pub to: f64,
    /// How high it is at both.
    pub height: f64,
}

/// A picture, placed.
pub struct Layout {
    /// Of all.
    pub height: f64,
    /// Of each node.
    pub tops: Vec<f64>,
    /// Of each node.
    pub heights: Vec<f64>,
    /// Of each link.
    pub ribbons: Vec<Ribbon>,
}

/// Room for a label between two nodes that are next to nothing.
pub const GAP: f64 = 19.0;
const MARGIN: f64 = 12.0;
/// All bytes.
const BYTES: f64 = 300.0;

/// Places them. Nodes stand in their order, columns are centred.
pub fn place(nodes: &[Node], links: &[Link]) -> Layout {
    let columns = nodes.iter().map(|node| node.column + 1).max().unwrap_or(0);
    let sum = |column: usize| {
        nodes.iter().filter(|node| node.column == column).fold(0u64, |sum, node| sum.saturating_add(node.bytes))
    };
    let total = (0..columns).map(sum).max().unwrap_or(0);
    let high = |bytes: u64| super::super::terms::part_of(bytes, total) / 100.0 * BYTES;
    let heights: Vec<f64> = nodes.iter().map(|node| high(node.bytes)).collect();
    let gaps = |column: usize| (1..nodes.iter().filter(|node| node.column == column).count()).map(|_| GAP).sum::<f64>();
    let most = (0..columns).map(gaps).fold(0.0, f64::max);
    let mut next: Vec<f64> = (0..columns).map(|column| MARGIN + (most - gaps(column)) / 2.0).collect();
    let mut tops = Vec::with_capacity(nodes.len());
    for (node, height) in nodes.iter().zip(&heights) {
        tops.push(next[node.column]);
        next[node.column] += height + GAP;
    }
    Layout { height: BYTES + most + 2.0 * MARGIN, ribbons: ribbons(links, &tops, high), tops, heights }
}

/// At each node side by side, in the order of what is at their other ends, so that few cross.
fn ribbons(links: &[Link], tops: &[f64], high: impl Fn(u64) -> f64) -> Vec<Ribbon> {
    let mut ribbons: Vec<Ribbon> =
        links.iter().map(|link| Ribbon { from: 0.0, to: 0.0, height: high(link.bytes) }).collect();
    let mut order: Vec<usize> = (0..links.len()).collect();
    order.sort_by(|&one, &other| tops[links[one].to].total_cmp(&tops[links[other].to]));
    let mut used = tops.to_vec();
    for &index in &order {
        ribbons[index].from = used[links[index].from];
        used[links[index].from] += ribbons[index].height;
    }
    order.sort_by(|&one, &other| tops[links[one].from].total_cmp(&tops[links[other].from]));
    used.copy_from_slice(tops);
    for &index in &order {
        ribbons[index].to = used[links[index].to];
        used[links[index].to] += ribbons[index].height;
    }
    ribbons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ribbons_fill_their_nodes() {
        let node = |column, bytes| Node { column, label: String::new(), bytes };
        let nodes = [node(0, 700), node(0, 300), node(1, 600), node(1, 400), node(2, 1000)];
        let link = |from, to, bytes| Link { from, to, bytes };
        let links =
            [link(0, 2, 500), link(0, 3, 200), link(1, 2, 100), link(1, 3, 200), link(2, 4, 600), link(3, 4, 400)];
        let Layout { height, tops, heights, ribbons } = place(&nodes, &links);
        for (index, node) in nodes.iter().enumerate() {
            let sums = [
                links
                    .iter()
                    .zip(&ribbons)
                    .filter(|(link, _)| link.from == index)
                    .map(|(_, one)| one.height)
                    .sum::<f64>(),
                links.iter().zip(&ribbons).filter(|(link, _)| link.to == index).map(|(_, one)| one.height).sum::<f64>(),
            ];
            for sum in sums.into_iter().filter(|sum| *sum > 0.0) {
                assert!((sum - heights[index]).abs() < 1e-9, "{index}: {sum} of {}", heights[index]);
            }
            assert!(tops[index] >= 0.0 && tops[index] + heights[index] <= height);
            let below = (index + 1..nodes.len()).find(|other| nodes[*other].column == node.column);
            assert!(below.is_none_or(|below| tops[below] >= tops[index] + heights[index] + GAP - 1e-9));
        }
        for (link, ribbon) in links.iter().zip(&ribbons) {
            let within = |top: f64, node: usize| {
                top >= tops[node] - 1e-9 && top + ribbon.height <= tops[node] + heights[node] + 1e-9
            };
            assert!(within(ribbon.from, link.from) && within(ribbon.to, link.to), "{link:?} {ribbon:?}");
        }
    }

    #[test]
    fn nothing_is_placed() {
        assert!(place(&[], &[]).ribbons.is_empty());
        let nodes = [Node { column: 0, label: String::new(), bytes: 0 }];
        assert!(place(&nodes, &[]).heights[0].abs() < 1e-9);
    }
}
