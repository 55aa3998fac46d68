use super::*;

#[test]
fn lists() {
    let macs = |body: &[u8]| {
        let mut facts = Facts::default();
        Question::Interfaces.take(body, &mut facts).map(|()| facts.interfaces.len())
    };
    assert_eq!(macs(b"02:00:00:00:00:02/\n02:00:00:00:00:0A/\n"), Ok(2));
    assert_eq!((macs(b""), macs("02:00:00:00:00:02/\n".repeat(MAX_LINES).as_bytes())), (Ok(0), Ok(MAX_LINES)));
    for odd in [
        &b"\xff"[..],
        b"<html>",
        b"02:00:00:00:00:02/\n../../iam/",
        "02:00:00:00:00:02/\n".repeat(MAX_LINES + 1).as_bytes(),
    ] {
        assert!(macs(odd).is_err());
    }
}

/// Half of a list must not look like all of it.
#[test]
fn addresses_are_known_if_both_families_are() {
    let mut facts = Facts { interfaces: vec![Interface::default()], ..Facts::default() };
    Question::Of(0, Field::Ipv4s).take(b"10.0.0.5", &mut facts).expect("an address");
    assert_eq!(facts.interfaces[0].addresses(), None);
    Question::Of(0, Field::Ipv6s).take(b"", &mut facts).expect("none");
    assert_eq!(facts.interfaces[0].addresses().map(|all| all.len()), Some(1));
    assert!(Question::Of(0, Field::Ipv6s).take(b"::1\n::x", &mut facts).is_err());
    assert_eq!(facts.interfaces[0].addresses(), None);
}

#[test]
fn blocks_of_the_vpc_are_those_of_the_primary_eni() {
    let asked = |primary: &[u8]| {
        let mut facts = Facts::default();
        let mut interview = Interview::new(&mut facts);
        let mut keys = Vec::new();
        while let Some(key) = interview.key() {
            let body = match key.rsplit('/').next() {
                Some("mac") => primary,
                Some("") => b"02:00:00:00:00:09/\n02:00:00:00:00:02/",
                Some("vpc-ipv4-cidr-blocks") => b"10.0.0.0/16\n100.64.0.0/16\n",
                _ => b"",
            };
            let status = if body.is_empty() { StatusCode::NOT_FOUND } else { StatusCode::OK };
            interview.take(status, body);
            keys.extend(key.contains("vpc-").then_some(key));
        }
        (keys, facts.vpc_cidr_blocks())
    };
    let (keys, blocks) = asked(b"02:00:00:00:00:02");
    let of_primary = |field| format!("network/interfaces/macs/02:00:00:00:00:02/{field}");
    assert_eq!(keys, ["vpc-ipv4-cidr-blocks", "vpc-ipv6-cidr-blocks"].map(of_primary));
    assert_eq!(blocks, ["10.0.0.0/16", "100.64.0.0/16"]);
    assert_eq!(asked(b""), (vec![], vec![]), "nobody knows which it is");
    let mut facts = Facts::default();
    assert!(Question::VpcIpv4Blocks.take(b"10.0.0.0/16\n<html>", &mut facts).is_err());
    assert_eq!(facts.vpc_cidr_blocks(), Vec::<String>::new());
}

fn endpoint(variables: &[(&str, &str)]) -> Endpoint {
    Endpoint::from_environment(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn where_the_environment_says() {
    const ENDPOINT: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
    assert_eq!(endpoint(&[]), Endpoint::Default);
    assert_eq!(endpoint(&[(ENDPOINT, "")]), Endpoint::Default);
    for (url, address) in [
        ("http://169.254.169.254", "169.254.169.254:80"),
        ("http://169.254.169.254/", "169.254.169.254:80"),
        ("http://127.0.0.1:1338", "127.0.0.1:1338"),
        ("http://[fd00:ec2::254]", "[fd00:ec2::254]:80"),
        ("http://[fd00:ec2::254]:81/", "[fd00:ec2::254]:81"),
    ] {
        assert_eq!(endpoint(&[(ENDPOINT, url)]), Endpoint::At(address.parse().expect("an address")));
    }
    for bad in [
        "169.254.169.254",
        "https://169.254.169.254",
        "http://metadata",
        "http://127.0.0.1/path",
        "http://1.2.3.4@5.6.7.8",
    ] {
        let Endpoint::Disabled(failure) = endpoint(&[(ENDPOINT, bad)]) else { panic!("{bad}") };
        assert_eq!(failure.state, SourceState::Malformed);
    }
    let mode = |mode| endpoint(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", mode)]);
    assert_eq!((mode("IPv6"), mode("ipv4"), mode("x")), (Endpoint::At(IPV6), Endpoint::At(IPV4), Endpoint::Default));
    let off = endpoint(&[("AWS_EC2_METADATA_DISABLED", "true"), (ENDPOINT, "http://127.0.0.1")]);
    assert!(matches!(off, Endpoint::Disabled(Failure { state: SourceState::Absent, .. })));
    assert_eq!(endpoint(&[("AWS_EC2_METADATA_DISABLED", "false")]), Endpoint::Default);
}
