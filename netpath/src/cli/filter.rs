//! Options that choose flows.

use clap::{Args, Command, FromArgMatches as _};

use crate::path::select::{Condition, Filter, NatFilter, Party, Way};

/// Which flows to report. Everything is measured; the sums for CloudWatch and the devices stay the whole node's.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which flows to report (one option twice: either; two options: both)")]
pub struct FilterArgs {
    /// Only flows of this pod; wildcards: 'default/web-*'.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = Condition::pod)]
    pub pod: Vec<Condition>,
    /// Only flows of pods of this namespace; wildcards: 'team-*'.
    #[arg(long, value_name = "NAME", value_parser = Condition::namespace)]
    pub namespace: Vec<Condition>,
    /// Only flows to this service's address, and their answers; wildcards: 'default/web-*'.
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]", value_parser = Condition::service)]
    pub service: Vec<Condition>,
    /// Only flows with this address, or one of this network, at any hop.
    #[arg(long, value_name = "ADDRESS", value_parser = Condition::net)]
    pub ip: Vec<Condition>,
    /// Only flows between these two, in either direction. Each is an address, a network, or a pod's or service's name
    /// (namespace/name; wildcards: 'default/web-*').
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_parser = Party::new)]
    pub between: Vec<Party>,
    /// Only flows with this port, at any hop: a number, or a name such as https.
    #[arg(long, value_name = "PORT", value_parser = Condition::port)]
    pub port: Vec<Condition>,
    /// Only flows of this protocol, by name, such as tcp, udp or icmp, or by its number.
    #[arg(long, value_name = "NAME", value_parser = Condition::proto)]
    pub proto: Vec<Condition>,
    /// Only flows that went this way.
    #[arg(long, value_enum, value_name = "PATH")]
    pub path: Vec<Way>,
    /// Only flows that NAT changes in this way.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub nat: Vec<NatFilter>,
    /// Only flows that passed this device; wildcards: 'eni*'.
    #[arg(long, value_name = "NAME", value_parser = Condition::device)]
    pub device: Vec<Condition>,
}

impl FilterArgs {
    /// Of a line as it is typed into the live view: "pod default/web-* path eni", with or without dashes. Returns the words that
    /// belong to no option, too.
    ///
    /// # Errors
    /// What clap finds wrong, in a line.
    pub fn from_words(line: &str) -> Result<(Self, Vec<String>), String> {
        let command = Self::augment_args(Command::new("filter").no_binary_name(true));
        let values = |word: &str| {
            let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
            let option = command.get_arguments().find(|option| option.get_long() == Some(name))?;
            Some(if word.contains('=') { 0 } else { option.get_num_args().map_or(1, |count| count.min_values()) })
        };
        let (mut options, mut others) = (Vec::new(), Vec::new());
        let mut expected = 0;
        // Quotes as a shell wants them are in no name.
        for word in line.replace(['\'', '"'], "").split_whitespace() {
            if expected > 0 {
                expected -= 1;
                options.push(word.to_owned());
            } else if let Some(count) = values(word) {
                expected = count;
                options.push(format!("--{}", word.trim_start_matches('-')));
            } else if word.starts_with('-') {
                return Err(format!("there is no option {word}; write it like: pod default/web-* path eni"));
            } else {
                others.push(word.to_owned());
            }
        }
        let matches = command.clone().try_get_matches_from(options);
        let args = matches.and_then(|matches| Self::from_arg_matches(&matches)).map_err(|error| {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").to_owned()
        })?;
        Ok((args, others))
    }

    /// As one filter.
    #[must_use]
    pub fn filter(&self) -> Filter {
        // Two values each.
        let pairs = self.between.chunks_exact(2);
        let between = pairs.map(|pair| Condition::Between(Box::new([pair[0].clone(), pair[1].clone()])));
        Filter::new([
            self.pod.clone(),
            self.namespace.clone(),
            self.service.clone(),
            self.ip.clone(),
            between.collect(),
            self.port.clone(),
            self.proto.clone(),
            self.path.iter().copied().map(Condition::Path).collect(),
            self.nat.iter().copied().map(Condition::Nat).collect(),
            self.device.clone(),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_line() {
        let read = |line: &str| {
            FilterArgs::from_words(line).map(|(args, others)| (args.filter().to_string(), others.join("|")))
        };
        for line in ["pod default/web-* path eni", "--pod default/web-* --path eni", "--pod='default/web-*' path eni"] {
            assert_eq!(read(line), Ok(("--pod default/web-* --path eni".to_owned(), String::new())), "{line}");
        }
        assert_eq!(read(""), Ok((String::new(), String::new())));
        assert_eq!(read("10.0.0.21 :443 proto tcp"), Ok(("--proto tcp".to_owned(), "10.0.0.21|:443".to_owned())));
        let between = read("between default/web 10.0.0.0/16").map(|(filter, _)| filter);
        assert_eq!(between.as_deref(), Ok("--between default/web 10.0.0.0/16"));
        for (line, why) in [
            ("path moon", "invalid value 'moon'"),
            ("pod", "a value is required"),
            ("--pods x", "there is no option --pods"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.starts_with(why), "{line}: {error}");
        }
    }
}
