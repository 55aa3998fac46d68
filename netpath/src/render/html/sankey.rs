//! The picture of where bytes went: from pods through paths to devices, each byte once.

mod layout;
mod parts;

use std::cmp::Reverse;

use maud::{Markup, html};

use self::layout::{Layout as Places, Link, Node, Ribbon, place};
use self::parts::{Part, parts};
use super::super::block::{Block, Cell, Column};
use super::super::labels;
use super::super::report::View;
use super::super::tone::Tone;
use super::super::units::{Scale, share};
use super::ROWS;
use super::table::{Layout, table};
use super::timeline::class;
use super::width::{fit, pixels};
use crate::report::{PathClass, Report};

/// The picture as columns of nodes, and what is between them.
struct Picture {
    nodes: Vec<Node>,
    links: Vec<Link>,
    /// The path that a link is of.
    paths: Vec<PathClass>,
    total: u64,
}

/// Where a column stands, and how wide its nodes are.
const COLUMNS: [f64; 3] = [310.0, 550.0, 810.0];
const NODE: f64 = 12.0;
const WIDTH: f64 = 1120.0;
/// Between a node and its label, and around the picture.
const SPACE: f64 = 8.0;

/// The picture, and its numbers.
pub fn section(report: &Report, view: &View) -> Markup {
    let scale = view.scale(report);
    let parts = parts(report);
    if parts.is_empty() {
        return html! { section id="picture" { h2 { "From pods through paths to devices" } p { "No byte was seen." } } };
    }
    let picture = picture(&parts);
    html! {
        section id="picture" class="wide" {
            h2 { "From pods through paths to devices" }
            p class="note" {
                "Each byte once, sent or received by the pod at the left; of two pods, by the one that sent it. At the right the \
                 ENI that it crossed, or else the last device that it was seen on."
            }
            div class="scroll" tabindex="0" role="region" aria-label="Picture of paths" { (svg(&picture, scale)) }
            details { summary { "As a table" } (numbers(&parts, picture.total, scale)) }
        }
    }
}

fn picture(parts: &[Part]) -> Picture {
    let mut nodes: Vec<Node> = Vec::new();
    let mut node = |column: usize, label: &str, bytes: u64| {
        let found = nodes.iter().position(|node| node.column == column && node.label == label);
        match found {
            Some(at) => nodes[at].bytes = nodes[at].bytes.saturating_add(bytes),
            None => nodes.push(Node { column, label: label.to_owned(), bytes }),
        }
    };
    // The largest on top.
    for part in parts {
        node(0, &part.who, part.bytes);
        node(1, part.path.name(), part.bytes);
        node(2, &part.device, part.bytes);
    }
    nodes.sort_by_key(|node| Reverse(node.bytes));
    let at = |column: usize, label: &str| {
        nodes.iter().position(|node| node.column == column && node.label == label).unwrap_or_default()
    };
    let (mut links, mut paths): (Vec<Link>, Vec<PathClass>) = (Vec::new(), Vec::new());
    for part in parts {
        let ends = [at(0, &part.who), at(1, part.path.name()), at(2, &part.device)];
        for pair in ends.windows(2) {
            let known = links.iter_mut().find(|link| (link.from, link.to) == (pair[0], pair[1]));
            if let Some(link) = known {
                link.bytes = link.bytes.saturating_add(part.bytes);
            } else {
                links.push(Link { from: pair[0], to: pair[1], bytes: part.bytes });
                paths.push(part.path);
            }
        }
    }
    let total = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.bytes));
    Picture { nodes, links, paths, total }
}

fn svg(picture: &Picture, scale: Scale) -> Markup {
    let Places { height, tops, heights, ribbons } = place(&picture.nodes, &picture.links);
    let paths = picture.nodes.iter().filter(|node| node.column == 1);
    let words: Vec<_> = paths.map(|node| format!("{} {}", node.label, scale.bytes(node.bytes))).collect();
    html! {
        svg class="sankey" role="img" aria-label={ "Bytes by path: " (words.join(", ")) }
            width=(WIDTH) height=(format!("{height:.0}")) viewBox={ "0 0 " (WIDTH) " " (format!("{height:.0}")) } {
            @for (ribbon, (link, path)) in ribbons.iter().zip(picture.links.iter().zip(&picture.paths)) {
                @let (from, to) = (&picture.nodes[link.from], &picture.nodes[link.to]);
                path class={ "ribbon " (class(*path)) } d=(outline(ribbon, from.column)) {
                    title { (from.label) " → " (to.label) ": " (scale.bytes(link.bytes)) ", " (share(link.bytes, picture.total)) }
                }
            }
            @for ((node, top), height) in picture.nodes.iter().zip(&tops).zip(&heights) {
                (node_of(node, *top, *height, picture.total, scale))
            }
        }
    }
}

fn node_of(node: &Node, top: f64, height: f64, total: u64, scale: Scale) -> Markup {
    let x = COLUMNS[node.column];
    let path = PathClass::ALL.into_iter().find(|path| node.column == 1 && path.name() == node.label);
    let class = path.map_or("node", class);
    let (at, anchor) = if node.column == 0 { (x - SPACE, "end") } else { (x + NODE + SPACE, "start") };
    let amount = scale.bytes(node.bytes);
    let room = if node.column == 0 { at } else { WIDTH - at } - SPACE - pixels(&amount) - pixels(" ");
    let what = path.map_or(String::new(), |path| format!(" ({})", labels::path(path)));
    html! {
        g {
            title { (node.label) (what) ": " (scale.bytes(node.bytes)) ", " (share(node.bytes, total)) }
            rect class=(class) x=(x) y=(format!("{top:.2}")) width=(NODE) height=(format!("{:.2}", height.max(1.5))) {}
            text x=(at) y=(format!("{:.2}", top + height / 2.0)) text-anchor=(anchor) {
                (fit(&node.label, room)) " " tspan class="amount" { (amount) }
            }
        }
    }
}

/// A band from the right edge of one node to the left edge of the next.
fn outline(ribbon: &Ribbon, column: usize) -> String {
    let (left, right) = (COLUMNS[column] + NODE, COLUMNS[column + 1]);
    let middle = f64::midpoint(left, right);
    let (from, to, high) = (ribbon.from, ribbon.to, ribbon.height.max(0.75));
    let (from_end, to_end) = (from + high, to + high);
    format!(
        "M{left:.1} {from:.2}C{middle:.1} {from:.2} {middle:.1} {to:.2} {right:.1} {to:.2}V{to_end:.2}C{middle:.1} {to_end:.2} \
         {middle:.1} {from_end:.2} {left:.1} {from_end:.2}Z"
    )
}

fn numbers(parts: &[Part], total: u64, scale: Scale) -> Markup {
    let columns = vec![
        Column::name(""),
        Column::words("PATH"),
        Column::name("DEVICE"),
        Column::number(scale.heading()),
        Column::number("SHARE"),
    ];
    let mut block = Block { title: "PODS, PATHS AND DEVICES".to_owned(), columns, ..Block::default() };
    for part in parts {
        block.row([
            Cell::from(part.who.as_str()),
            Cell::toned(part.path.name().to_owned(), Tone::of(part.path)),
            part.device.as_str().into(),
            Cell::number(scale.bytes(part.bytes), part.bytes),
            Cell::number(share(part.bytes, total), part.bytes),
        ]);
    }
    table(&block, &Layout { first: "Pod or others", shown: ROWS, sorts: true, marks: &[] })
}
