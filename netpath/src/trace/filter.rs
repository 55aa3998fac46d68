//! TEMPORARY
use std::collections::BTreeSet;
use std::net::IpAddr;
use netpath_ebpf::trace::*;
/// names
pub trait Names {
    /// x
    fn pod(&self, name: &str) -> Vec<IpAddr>;
    /// x
    fn namespace(&self, name: &str) -> Vec<IpAddr>;
    /// x
    fn service(&self, name: &str) -> Vec<(u8, IpAddr, u16)>;
    /// x
    fn device(&self, name: &str) -> Option<u32>;
    /// x
    fn port(&self, name: &str) -> Option<u16>;
}
/// x
pub struct Expression(String);
/// x
pub fn parse(text: &str) -> Result<Expression, anyhow::Error> { Ok(Expression(text.to_owned())) }
/// x
pub struct Filter { /// x
    pub tests: [Test; TESTS], /// x
    pub members: Vec<(u32, [u32; 4])> }
impl Filter { /// x
    pub fn accepts_all(&self) -> bool { false } }
impl Expression {
    /// x
    pub fn needs_names(&self) -> bool { false }
    /// x
    pub fn required_pods(&self) -> Option<BTreeSet<String>> { None }
    /// x
    pub fn with_pods(self, _pods: &[String]) -> Self { self }
    /// host A only
    pub fn compile(&self, _names: &impl Names) -> Result<Filter, anyhow::Error> {
        let mut tests = [Test::default(); TESTS];
        if let Some(host) = self.0.strip_prefix("host ") {
            let a: std::net::Ipv4Addr = host.parse()?;
            let low = [u32::from(a).to_be(), 0, 0, 0];
            tests[0] = Test { kind: Kind::Address as u8, fact: fact::SOURCE, then: ACCEPT, otherwise: 1, low, high: [u32::MAX; 4] };
            tests[1] = Test { kind: Kind::Address as u8, fact: fact::DESTINATION, then: ACCEPT, otherwise: REJECT, low, high: [u32::MAX; 4] };
        } else {
            tests[0] = Test { then: ACCEPT, otherwise: ACCEPT, ..Test::default() };
        }
        Ok(Filter { tests, members: Vec::new() })
    }
}
