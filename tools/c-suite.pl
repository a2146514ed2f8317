#!/usr/bin/env perl
# Runs C test programs, one process per case, and counts the cases.
#
#   c-suite.pl [--jobs N] [--limit SECONDS] [--result FILE] [--wrap 'COMMAND ...'] PROGRAM[:CASE] ...
#
# `PROGRAM --list` names a program's cases; `PROGRAM CASE` runs one and speaks TAP. A case counts as passed only if its
# exit status is 0 as well.
use strict;
use warnings;
use File::Basename qw(basename);
use Getopt::Long;
use TAP::Harness;

my ($jobs, $limit, $result, $wrap) = (2, 200, undef, '');
GetOptions('jobs=i' => \$jobs, 'limit=i' => \$limit, 'result=s' => \$result, 'wrap=s' => \$wrap)
  or die "see the head of this file\n";

my @tests;
for my $argument (@ARGV) {
  my ($program, $only) = split /:/, $argument;
  my @cases = $only // map { chomp; $_ } `'$program' --list`;
  die "$program --list failed\n" if $? != 0 || !@cases;
  (my $name = basename($program)) =~ s/\.sh$//;
  push @tests, map { ["$program:$_", "$name/$_"] } @cases;
}

my $harness = TAP::Harness->new({
  jobs => $jobs,
  verbosity => -1,
  failures => 1,
  color => 0,
  exec => sub {
    my (undef, $test) = @_;
    my ($program, $case) = split /:/, $test;
    return ['timeout', '-k', '5', $limit, split(' ', $wrap), $program, $case];
  },
});
my (%reason, %why, %comments);
$harness->callback(made_parser => sub {
  my ($parser, $job) = @_;
  $parser->callback(comment => sub { push @{ $comments{ $job->[1] } }, $_[0]->as_string });
  $parser->callback(test => sub {
    my ($test) = @_;
    $reason{ $job->[1] } = $test->explanation if $test->has_skip;
    ($why{ $job->[1] } = $test->description) =~ s/^- \Q$job->[1]\E// unless $test->is_ok;
  });
});
my $all = $harness->runtests(@tests);
# A test fails by its TAP, by TAP it did not finish, or by its exit status.
my %failed = map { $_ => 1 } $all->failed, $all->parse_errors, $all->exit;
my $failed = keys %failed;
my $skipped = grep { !$failed{$_} } $all->skipped;
my $passed = @tests - $failed - $skipped;
print "skipped: $_: $reason{$_}\n" for $all->skipped;
# Once more at the end, where it is still in sight.
for my $name (sort keys %failed) {
  print map { "$_\n" } @{ $comments{$name} // [] };
  my ($parser) = $all->parsers($name);
  my $none = ($parser->exit // 0) == 124 ? ": had not ended after $limit s" : ': ended without a result';
  print "FAILED: $name", $why{$name} // $none, "\n";
}
print "$passed passed, $failed failed, $skipped skipped\n";
if (defined $result) {
  open my $out, '>', $result or die "$result: $!\n";
  print $out "$passed $failed $skipped\n";
  close $out or die "$result: $!\n";
}
exit($failed ? 1 : 0);
