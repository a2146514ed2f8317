#!/usr/bin/env perl
# Measures what a transfer costs through uvcurl and through its peers, prints tables, and writes docs/performance.md.
#
#   run.pl                 everything
#   run.pl --quick         the ratios that matter, in under two minutes; writes nothing
#   run.pl --only a,b      some parts: ratios syscalls instructions timer idle close loops settings
#   run.pl --work a,b      of the ratios, some workloads (their names stand below)
#   run.pl --repeat N      how often each program runs in turn (5)
#   run.pl --render        print and write again what was measured last
#
# Ratios come from programs that take turns (A B C A B C ...), each divided by uvcurl's run of the same turn; what is shown
# is the median and, in brackets, the lowest and the highest. Nothing here is a test: a slow machine fails nothing.
use strict;
use warnings;
use Cwd qw(getcwd);
use File::Path qw(make_path);
use Getopt::Long;
use IPC::Open2;
use JSON::PP;
use List::Util qw(max min sum);
use Time::HiRes qw(time);

my ($quick, $only, $work, $repeat, $render, $out) = (0, '', '', 5, 0, 'docs/performance.md');
GetOptions('quick' => \$quick, 'only=s' => \$only, 'work=s' => \$work, 'repeat=i' => \$repeat, 'render' => \$render, 'write=s' => \$out)
  or die "see the head of this file\n";
$only = 'ratios' if $work && !$only;
my %only = map { $_ => 1 } split /,/, $only;
my %work = map { $_ => 1 } split /,/, $work;
my $kept = 'build/bench/results.json';
my $cores = () = (-r '/proc/cpuinfo' ? qx(cat /proc/cpuinfo) : '') =~ /^processor/mg;
my $begun = time;

# ---- what is run ----

my @LOOPS = qw(uvcurl multi_uv epoll libevent libev);
my @ALL = (@LOOPS, qw(multi_poll threads));
my %TITLE = (
  uvcurl => 'uvcurl', multi_uv => "multi-uv's shape", epoll => 'epoll', libevent => 'libevent', libev => 'libev',
  multi_poll => 'curl_multi_poll', threads => 'threads',
);

# name, title, arguments, drivers, libraries
my @WORKLOADS = (
  ['seq', 'one after another', '--in-flight 1 --warm 500 --count 8000', \@ALL],
  ['seq1', 'one after another, server on the same CPU', '--in-flight 1 --warm 500 --count 8000 --beside', \@LOOPS],
  ['keep10', '10 at once', '--in-flight 10 --warm 1000 --count 20000', \@ALL],
  ['keep100', '100 at once', '--in-flight 100 --warm 2000 --count 20000', \@ALL],
  ['keep200', '200 at once', '--in-flight 200 --warm 2000 --count 20000', \@ALL],
  ['keep1000', '1,000 at once, 200 hosts', '--in-flight 1000 --hosts 200 --warm 2000 --count 20000', \@ALL],
  ['keep2000x1', '2,000 at once, 1 host', '--in-flight 2000 --warm 4000 --count 10000', [@LOOPS, 'multi_poll']],
  ['keep2000', '2,000 at once, 2,000 hosts', '--in-flight 2000 --hosts 2000 --warm 4000 --count 20000',
    [@LOOPS, 'multi_poll']],
  ['keep10000', '10,000 at once, 2,000 hosts', '--in-flight 10000 --hosts 2000 --warm 10000 --count 30000 --max-connects 20000',
    [@LOOPS, 'multi_poll']],
  ['keep19000', '19,000 at once, 2,000 hosts', '--in-flight 19000 --hosts 2000 --warm 19000 --count 38000 --max-connects 20000',
    [@LOOPS, 'multi_poll']],
  ['burst', '10,000 once, 2,000 hosts', '--burst --in-flight 10000 --hosts 2000', [@LOOPS, 'multi_poll']],
  ['fresh', 'new connections, 100 at once', '--in-flight 100 --warm 200 --count 6000 --fresh', \@ALL],
  ['fresh2000', 'new connections, 2,000 at once, 2,000 hosts',
    '--in-flight 2000 --hosts 2000 --warm 2000 --count 8000 --fresh', \@LOOPS],
  ['big', '10 MB bodies, 10 at once', '--in-flight 10 --warm 10 --count 60 --body 10000000', \@ALL],
  ['upload', '1 MB uploads, 10 at once', '--in-flight 10 --warm 10 --count 300 --upload 1000000', \@ALL],
  ['tls', 'TLS, 100 at once', '--tls --in-flight 100 --warm 1000 --count 10000', \@ALL],
  ['tlsfresh', 'TLS, new connections, 20 at once', '--tls --in-flight 20 --warm 50 --count 600 --fresh', \@ALL],
  ['h2_1000', 'HTTP/2, 1,000 at once, 10 connections',
    '--http 2 --in-flight 1000 --hosts 10 --warm 2000 --count 20000 --delay 20', [@LOOPS, 'multi_poll']],
  ['h2_10000', 'HTTP/2, 10,000 at once, 100 connections',
    '--http 2 --in-flight 10000 --hosts 100 --warm 10000 --count 30000 --delay 20', [@LOOPS, 'multi_poll']],
  ['h2_50000', 'HTTP/2, 50,000 at once, 500 connections',
    '--http 2 --in-flight 50000 --hosts 500 --warm 50000 --count 100000 --delay 20', [qw(uvcurl multi_uv epoll libevent)]],
  ['queue', '100,000 behind a limit of 100 connections',
    '--burst --in-flight 100000 --max-total 100 --max-connects 100', [qw(uvcurl multi_uv epoll libevent)]],
);
# What libcurl itself takes without a setting and with it. Through uvcurl, but for what uvcurl sets by itself.
# docs/scaling.md has the reasons.
my @SETTINGS = (
  ['10,000 once, 2,000 hosts: CURLMOPT_MAXCONNECTS 10,000', '--burst --in-flight 10000 --hosts 2000',
    '--burst --in-flight 10000 --hosts 2000 --max-connects 10000', 'epoll'],
  ['2,000 at once, 2,000 hosts: CURLOPT_DNS_CACHE_TIMEOUT -1', '--in-flight 2000 --hosts 2000 --warm 4000 --count 20000',
    '--in-flight 2000 --hosts 2000 --warm 4000 --count 20000 --dns-seconds -1'],
  ['4,000 at once to 1 host: the same to 400 hosts', '--in-flight 4000 --warm 4000 --count 12000 --max-connects 4000',
    '--in-flight 4000 --hosts 400 --warm 4000 --count 12000 --max-connects 4000'],
  ['5,000 at once, 50 hosts: HTTP/2 instead of HTTP/1.1', '--in-flight 5000 --hosts 50 --warm 5000 --count 20000 --max-connects 5000',
    '--http 2 --in-flight 5000 --hosts 50 --warm 5000 --count 20000'],
  ['10,000 once, 200 hosts: CURLMOPT_MAX_TOTAL_CONNECTIONS 500', '--burst --in-flight 10000 --hosts 200 --max-connects 10000',
    '--burst --in-flight 10000 --hosts 200 --max-total 500 --max-connects 500'],
);
# On the system's libraries, too: where the versions of libuv and libcurl make a difference.
my %HOST = map { $_ => 1 } qw(seq keep200 keep19000 fresh);
my %LARGE = map { $_ => 1 } qw(burst keep10000 keep19000 h2_50000 queue);

# ---- running ----

my (%server, %ports);

sub start_server {
  my ($cpu) = @_;
  my $key = $cpu // 'free';
  return $ports{$key} if $ports{$key};
  my @command = ('build/bench/server', '--certs', 'build/certs');
  push @command, '--cpu', $cpu if defined $cpu && $cores > 1;
  my $pid = open2(my $from, my $to, @command);
  my $line = <$from> // die "the server did not start\n";
  $server{$key} = { pid => $pid, to => $to };
  return $ports{$key} = decode_json($line);
}

END {
  for my $s (values %server) {
    close $s->{to};
    waitpid $s->{pid}, 0;
  }
}

sub arguments {
  my ($text, %how) = @_;
  my $beside = $text =~ s/ --beside//;
  my $ports = start_server($how{free} ? undef : $beside ? 0 : 1);
  my $tls = $text =~ s/--tls/--tls build\/certs\/ca.pem/;
  my @arguments = ('--port', $tls ? $ports->{https} : $ports->{http}, split ' ', $text);
  push @arguments, '--limit', 30 unless $text =~ /--limit/;
  push @arguments, '--cpu', 0 if !$how{free} && $cores > 1;
  return @arguments;
}

# Runs a program; its line of JSON, or undef with a warning.
sub run {
  my ($libs, $driver, $text, %how) = @_;
  my @command = (@{ $how{wrap} // [] }, "build/bench/$libs/$driver", arguments($text, %how));
  open my $from, '-|', @command or die "$command[0]: $!\n";
  my $line = join '', <$from>;
  my $ok = close $from;
  my $result = $line =~ /^\{/ ? decode_json($line) : undef;
  warn "FAILED: @command: " . ($result ? "$result->{failed} transfers, $result->{error}" : 'no result') . "\n"
    if !$ok || !$result;
  return $ok ? $result : undef;
}

sub progress {
  printf STDERR "[%3d s] %s\n", time - $begun, join ' ', @_ if $ENV{BENCH_TRACE};
  return unless -t STDERR;
  printf STDERR "\r\e[K[%3d s] %s", time - $begun, join ' ', @_;
}

sub wanted {
  my ($part) = @_;
  return !%only || $only{$part};
}

sub median {
  my @sorted = sort { $a <=> $b } @_;
  return undef unless @sorted;
  return @sorted % 2 ? $sorted[$#sorted / 2] : ($sorted[@sorted / 2 - 1] + $sorted[@sorted / 2]) / 2;
}

# ---- parts ----

# Every driver of a workload in turn. Keeps the readings; the ratios are made when they are shown.
sub measure_ratio {
  my ($libs, $name, $text, $drivers, $turns) = @_;
  my %readings;
  for my $turn (1 .. $turns) {
    # Every other turn backwards, so that nobody always comes after the same one.
    for my $driver ($turn % 2 ? @$drivers : reverse @$drivers) {
      progress("$libs $name $driver $turn/$turns");
      my $r = run($libs, $driver, $text) or next;
      next if $r->{timed_out} && $r->{transfers} < 100;
      push @{ $readings{$driver} }, {
        turn => $turn,
        cpu => ($r->{user_us} + $r->{system_us}) / $r->{transfers},
        user => $r->{user_us} / $r->{transfers},
        rate => $r->{per_s},
        rss => ($r->{rss_peak_kb} - $r->{rss_start_kb}) / $r->{in_flight},
        rss_driver => ($r->{rss_peak_kb} - $r->{rss_slots_kb}) / $r->{in_flight},
        connects => $r->{connects} / $r->{transfers},
        timed_out => $r->{timed_out} ? 1 : 0,
      };
    }
  }
  return \%readings;
}

# Calls by name, of transfers in the middle of a run: those of a long run less those of a short one. The server takes
# some milliseconds, so that under strace no answer is there before libcurl has begun to wait for it.
sub measure_syscalls {
  my ($libs, $driver, $text) = @_;
  my (@counts, @lengths);
  @lengths = $quick ? (300, 1300) : (1000, 4000);
  for my $count (@lengths) {
    my $file = "build/bench/strace.$$";
    progress("$libs $driver system calls $count");
    run($libs, $driver, "$text --count $count", wrap => ['strace', '-f', '-qq', '-s', '0', '-o', $file]) or return undef;
    my %calls;
    open my $in, '<', $file or die "$file: $!\n";
    while (<$in>) {
      if (/^(?:\d+ +)?(\w+)\(/) {
        $calls{$1}++;
      }
      # What libuv hands to the kernel by io_uring is epoll_ctl, by another door.
      $calls{'epoll_ctl by io_uring'} += $1 if /io_uring_enter.*\) += (\d+)$/;
    }
    close $in;
    unlink $file;
    push @counts, \%calls;
  }
  my %per;
  for my $name (keys %{ $counts[1] }) {
    my $n = ($counts[1]{$name} - ($counts[0]{$name} // 0)) / ($lengths[1] - $lengths[0]);
    $per{$name} = $n if $n >= 0.0005;
  }
  return \%per;
}

# Whose a function is: by the file it is compiled from, in other objects by the object.
sub owner {
  my ($object, $file, $function, $program) = @_;
  if ($object !~ /\Q$program\E$/) {
    return 'uvcurl' if $object =~ /libuvcurl/;
    return 'libuv' if $object =~ /libuv/;
    return 'libcurl' if $object =~ /libcurl|libnghttp2/;
    return 'loop library' if $object =~ /libev/;
    return 'libc' if $object =~ m{/(?:libc|ld-linux)[^/]*\.so|valgrind|^\?\?\?$}; # ???: stubs of the linker's
    return 'other libraries';
  }
  return 'driver' if $function =~ /^bench_(?:drain|now_ns|ms_until)/;
  return 'frame' if $file =~ m{benches/(?:frame|uvcurl)\.c$};
  return 'driver' if $file =~ m{benches/};
  return 'libuv' if $file =~ m{/libuv/};
  return 'libcurl' if $file =~ m{/curl/lib/|/curl-sys|nghttp2|zlib};
  return 'uvcurl' if $file =~ m{\.rs$} || $function =~ /^(?:core|alloc|std|uvcurl|hashbrown)|::/;
  return 'libc';
}

# Self cost by owner; what a function calls of libc is the caller's.
sub read_callgrind {
  my ($file, $program) = @_;
  my (%names, %cost, %owners);
  my ($object, $source, $function, $to_object, $to_source) = ('', '', '', undef, undef);
  my ($owner, $callee, $inclusive) = ('libc', 'libc', 0);
  my $name = sub {
    my ($kind, $text) = @_;
    my ($id, $value) = $text =~ /^\((\d+)\)(?: (.*))?$/ or return $text;
    $names{$kind}{$id} = $value if defined $value;
    return $names{$kind}{$id} // '???';
  };
  my $owner_of = sub {
    my $key = join "\0", @_;
    return $owners{$key} //= owner(@_, $program);
  };
  open my $in, '<', $file or die "$file: $!\n";
  while (<$in>) {
    chomp;
    if (/^[+\-*\d]\S* (\d+)$/) {
      if ($inclusive) {
        $cost{$owner} += $1 if $owner ne 'libc' && $callee eq 'libc';
        $inclusive = 0;
      } elsif ($owner ne 'libc') {
        $cost{$owner} += $1;
      }
    } elsif (/^ob=(.*)/) {
      $object = $name->('ob', $1);
    } elsif (/^fl=(.*)/) {
      $source = $name->('fl', $1);
    } elsif (/^f[ie]=(.*)/) {
      $name->('fl', $1); # of an inlined function: the cost stays with the function it is inlined into
    } elsif (/^fn=(.*)/) {
      $function = $name->('fn', $1);
      $owner = $owner_of->($object, $source, $function);
    } elsif (/^cob=(.*)/) {
      $to_object = $name->('ob', $1);
    } elsif (/^cf[il]=(.*)/) {
      $to_source = $name->('fl', $1);
    } elsif (/^cfn=(.*)/) {
      $callee = $owner_of->($to_object // $object, $to_source // $source, $name->('fn', $1));
    } elsif (/^calls=/) {
      $inclusive = 1;
      ($to_object, $to_source) = (undef, undef);
    }
  }
  close $in;
  return \%cost;
}

sub measure_instructions {
  my ($libs, $driver, $text) = @_;
  my @costs;
  local $ENV{LD_BIND_NOW} = 1;
  my @lengths = $quick ? (300, 1300) : (500, 2500);
  for my $count (@lengths) {
    my $file = "build/bench/callgrind.$$";
    progress("$libs $driver instructions $count");
    run($libs, $driver, "$text --count $count", wrap => ['valgrind', '-q', '--tool=callgrind', "--callgrind-out-file=$file"])
      or return undef;
    push @costs, read_callgrind($file, $driver);
    unlink $file;
  }
  return { map { $_ => ($costs[1]{$_} - ($costs[0]{$_} // 0)) / ($lengths[1] - $lengths[0]) } keys %{ $costs[1] } };
}

my @PARTS = qw(ratios syscalls instructions timer idle close loops settings);
my %results;

sub read_kept {
  open my $in, '<', $kept or return;
  return %{ decode_json(do { local $/; <$in> }) };
}

# After each part, so that a run that is broken off has not been for nothing.
sub keep {
  return if $quick;
  open my $to, '>', $kept or die "$kept: $!\n";
  print $to JSON::PP->new->canonical->encode(\%results);
  close $to or die "$kept: $!\n";
}

sub measure_all {
  my %before = read_kept();
  %results = map { $_ => $only{$_} || !%only || !$before{$_} ? {} : $before{$_} } @PARTS;
  $results{ratios} = $before{ratios} if %work && $before{ratios};
  $results{machine} = machine();
  start_server(1);
  my ($first) = run('embedded', 'uvcurl', '--count 10');
  my ($host) = run('host', 'uvcurl', '--count 10');
  $results{versions} = { embedded => "libcurl $first->{libcurl}, libuv $first->{loop}",
    host => $host ? "libcurl $host->{libcurl}, libuv $host->{loop}" : '' };
  my $idle;
  if ($quick && wanted('idle')) { # it sleeps; others may work meanwhile
    my $ports = start_server(1);
    open $idle, '-|', 'build/bench/embedded/uvcurl', arguments(idle_work()) or die "uvcurl: $!\n";
  }
  if (wanted('syscalls')) {
    for my $libs (qw(embedded host)) {
      for my $driver ($quick ? qw(uvcurl multi_uv epoll) : @ALL) {
        for my $w (['keep100', '--in-flight 100 --delay 5'], ['fresh', '--in-flight 100 --fresh --delay 5'],
          ['seq', '--in-flight 1 --delay 1'], ['tls', '--in-flight 100 --tls --delay 5']) {
          next if $quick && $w->[0] !~ /keep|fresh/;
          next if $driver =~ /^(?:multi_poll|threads)$/ && $w->[0] ne 'keep100';
          my $calls = measure_syscalls($libs, $driver, $w->[1]);
          $results{syscalls}{$libs}{ $w->[0] }{$driver} = $calls if $calls;
        }
      }
    }
  }
  keep();
  if (wanted('instructions')) {
    for my $driver ($quick ? qw(uvcurl multi_uv) : @LOOPS) {
      my $cost = measure_instructions('embedded', $driver, '--in-flight 100');
      $results{instructions}{$driver} = $cost if $cost;
    }
  }
  if ($idle) {
    my $line = join '', <$idle>;
    close $idle;
    $results{idle}{uvcurl} = decode_json($line) if $line =~ /^\{/;
  }
  if (wanted('ratios')) {
    for my $w (@WORKLOADS) {
      my ($name, undef, $text, $drivers) = @$w;
      next if %work && !$work{$name};
      my $turns = $LARGE{$name} ? min($repeat, 3) : $repeat;
      if ($quick) {
        next unless $name =~ /^(?:seq|keep200|fresh|keep19000)$/;
        $drivers = $name eq 'seq' ? [qw(uvcurl epoll)]
          : $name eq 'keep19000' ? [qw(uvcurl epoll)]
          : $name eq 'fresh' ? [qw(uvcurl multi_uv epoll)] : [qw(uvcurl multi_uv epoll libevent)];
        $turns = $name eq 'keep19000' ? 2 : $name eq 'fresh' ? 3 : $name eq 'seq' ? 5 : 7;
        $text =~ s/--count 38000/--count 19000/;
        $text =~ s/--count 20000/--count 10000/;
        $text =~ s/--count (?:8|6)000/--count 3000/;
      }
      $results{ratios}{embedded}{$name} = measure_ratio('embedded', $name, $text, $drivers, $turns);
      keep();
      next if $quick || !$HOST{$name};
      $results{ratios}{host}{$name} = measure_ratio('host', $name, $text,
        # libcurl 7.88 takes minutes for 19,000 at once.
        [grep { $name eq 'keep19000' ? /^(?:uvcurl|epoll)$/ : !/threads|multi_poll/ } @$drivers], min($turns, 3));
      keep();
    }
  }
  keep();
  if (wanted('timer') && !$quick) {
    # At a load that leaves the loop some rest, and at full load.
    for my $w (['rest', '--in-flight 100 --delay 20 --warm 500 --count 8000 --tick'],
      ['full', '--in-flight 100 --warm 1000 --count 20000 --tick'],
      ['many', '--in-flight 2000 --hosts 2000 --delay 400 --warm 2000 --count 10000 --tick']) {
      for my $turn (1 .. $repeat) {
        for my $driver ($turn % 2 ? @LOOPS : reverse @LOOPS) {
          progress("timer $w->[0] $driver $turn/$repeat");
          my $r = run('embedded', $driver, $w->[1]) or next;
          push @{ $results{timer}{ $w->[0] }{$driver} }, [@$r{qw(late_p50_us late_p99_us late_max_us)}];
        }
      }
    }
  }
  keep();
  if (wanted('idle') && !$quick) {
    for my $driver (@LOOPS, 'multi_poll') {
      progress("idle $driver");
      $results{idle}{$driver} = run('embedded', $driver, idle_work());
    }
  }
  keep();
  if (wanted('close') && !$quick) {
    for my $driver (@LOOPS) {
      for my $turn (1 .. min($repeat, 3)) {
        progress("close $driver");
        my $r = run('embedded', $driver, '--in-flight 10000 --hosts 2000 --delay 30000 --close 4000') or next;
        push @{ $results{close}{$driver} }, $r->{close_ms};
      }
    }
  }
  keep();
  if (wanted('loops') && !$quick) {
    for my $w (['plain', '--in-flight 100 --warm 2000 --count 20000'],
      ['tls', '--tls --in-flight 20 --warm 50 --count 500 --fresh'],
      ['h2', '--http 2 --in-flight 1000 --hosts 10 --warm 2000 --count 40000 --delay 5']) {
      for my $turn (1 .. $repeat) {
        for my $loops (1, 2) {
          progress("loops $w->[0] $loops $turn/$repeat");
          my $r = run('embedded', 'uvcurl', "$w->[1] --loops $loops", free => 1) or next;
          push @{ $results{loops}{ $w->[0] }{$loops} },
            { rate => $r->{per_s}, cpu => ($r->{user_us} + $r->{system_us}) / $r->{transfers} };
        }
      }
    }
  }
  keep();
  if (wanted('settings') && !$quick) {
    for my $at (0 .. $#SETTINGS) {
      my (undef, $one, $other, $driver) = @{ $SETTINGS[$at] };
      for my $turn (1 .. min($repeat, 3)) {
        my @pair;
        for my $side ($turn % 2 ? (0, 1) : (1, 0)) {
          progress("settings $at $turn");
          $pair[$side] = run('embedded', $driver // 'uvcurl', $side ? $other : $one);
        }
        next unless $pair[0] && $pair[1];
        push @{ $results{settings}{$at} }, { map { my $i = $_;
          ($i ? 'with' : 'without') => ($pair[$i]{user_us} + $pair[$i]{system_us}) / $pair[$i]{transfers} } 0, 1 };
      }
    }
  }
  progress('');
}

sub idle_work {
  return '--in-flight 1000 --hosts 100 --count 2000 --max-connects 1000 --idle 10000';
}

sub machine {
  my ($cpu) = qx(cat /proc/cpuinfo) =~ /^model name\s*: (.*)/m;
  my ($memory) = qx(cat /proc/meminfo) =~ /^MemTotal:\s*(\d+)/m;
  chomp(my $kernel = qx(uname -sr));
  chomp(my $compiler = qx(cc --version | head -1));
  return sprintf '%d processors (%s), %.0f GB, %s, %s', $cores, $cpu // 'unknown', $memory / 1e6, $kernel, $compiler;
}

# ---- showing ----

my @lines;
sub line { push @lines, @_ ? "@_" : '' }

sub table {
  my ($head, @rows) = @_;
  my @width = map { my $i = $_; max map { length($_->[$i] // '') } $head, @rows } 0 .. $#$head;
  my $row = sub {
    my ($cells) = @_;
    my $text = '| ' . join(' | ', map { my $c = $cells->[$_] // ''; $_ ? (' ' x ($width[$_] - length $c)) . $c
      : $c . ' ' x ($width[$_] - length $c) } 0 .. $#$head) . ' |';
    return $text;
  };
  line($row->($head));
  line('|' . join('|', map { $_ ? '-' x ($width[$_] + 1) . ':' : '-' x ($width[$_] + 2) } 0 .. $#$head) . '|');
  line($row->($_)) for @rows;
  line();
}

sub number {
  my ($n) = @_;
  return '' unless defined $n;
  return sprintf('%.0f', $n) if $n >= 100;
  return sprintf('%.1f', $n) if $n >= 10;
  return sprintf('%.2f', $n);
}

# Median, lowest and highest of what `of` gives, divided by uvcurl's of the same turn.
sub ratio {
  my ($readings, $driver, $field) = @_;
  my %base = map { $_->{turn} => $_->{$field} } @{ $readings->{uvcurl} // [] };
  my @ratios = map { $base{ $_->{turn} } ? $_->{$field} / $base{ $_->{turn} } : () } @{ $readings->{$driver} // [] };
  return @ratios ? (median(@ratios), min(@ratios), max(@ratios)) : ();
}

sub ratio_text {
  my ($readings, $driver, $field) = @_;
  my ($median, $low, $high) = ratio($readings, $driver, $field) or return '';
  return '1' if $driver eq 'uvcurl';
  return sprintf '%.2f (%.2f-%.2f)', $median, $low, $high;
}

sub show_ratios {
  my ($libs) = @_;
  my $all = $results{ratios}{$libs};
  return unless $all && %$all;
  for my $what (['cpu', 'CPU per transfer'], ['rate', 'transfers per second']) {
    my ($field, $title) = @$what;
    line("**$title, $results{versions}{$libs}**: uvcurl's own figure, and the others divided by it");
    line();
    my @drivers = grep { my $d = $_; grep { $all->{$_}{$d} } keys %$all } @ALL;
    my @rows;
    for my $w (@WORKLOADS) {
      my $readings = $all->{ $w->[0] } or next;
      my $own = median(map { $_->{$field} } @{ $readings->{uvcurl} // [] });
      push @rows, [$w->[1], number($own) . ($field eq 'cpu' ? ' us' : ''),
        map { ratio_text($readings, $_, $field) } grep { $_ ne 'uvcurl' } @drivers];
    }
    table(['workload', 'uvcurl', map { $TITLE{$_} } grep { $_ ne 'uvcurl' } @drivers], @rows);
  }
}

sub show_memory {
  my @rows;
  for my $libs (qw(embedded host)) {
    for my $name (qw(keep1000 keep10000 keep19000 h2_50000 queue)) {
      my $readings = ($results{ratios}{$libs} // {})->{$name} or next;
      my ($w) = grep { $_->[0] eq $name } @WORKLOADS;
      push @rows, ["$w->[1], $results{versions}{$libs}", map { my $d = $_;
        join ' / ', map { my $f = $_; number(median(map { $_->{$f} } @{ $readings->{$d} // [] })) } qw(rss rss_driver)
      } qw(uvcurl multi_uv epoll libevent)];
    }
  }
  return unless @rows;
  line('**Memory per transfer in flight**, kB at the peak: all / without the easy handles as they were before the first start');
  line();
  table(['workload', map { $TITLE{$_} } qw(uvcurl multi_uv epoll libevent)], @rows);
}

my @NAMES = ('epoll_ctl', 'epoll_ctl by io_uring', 'io_uring_enter', 'ioctl', 'epoll_wait', 'poll', 'rt_sigaction');

sub waits { return ($_[0]{epoll_wait} // 0) + ($_[0]{epoll_pwait} // 0) }

sub show_syscalls {
  my %titles = (keep100 => 'kept connections, 100 at once', fresh => 'new connections, 100 at once',
    seq => 'one after another', tls => 'TLS, kept connections, 100 at once');
  for my $libs (qw(embedded host)) {
    for my $name (qw(keep100 fresh seq tls)) {
      my $by = $results{syscalls}{$libs}{$name} or next;
      my %known = map { $_ => 1 } @NAMES, qw(epoll_pwait);
      my @drivers = grep { $by->{$_} } @ALL;
      my %others;
      for my $driver (@drivers) {
        $others{$_} = 1 for grep { !$known{$_} && $by->{$driver}{$_} >= 0.01 } keys %{ $by->{$driver} };
      }
      line("**System calls per transfer, $titles{$name}, $results{versions}{$libs}**");
      line();
      table(['call', map { $TITLE{$_} } @drivers],
        (map { my $n = $_; my @v = map { $n eq 'epoll_wait' ? waits($by->{$_}) : $by->{$_}{$n} // 0 } @drivers;
          max(@v) >= 0.01 ? [$n, map { sprintf '%.2f', $_ } @v] : () } @NAMES, sort keys %others),
        ['all', map { my $c = $by->{$_}; sprintf '%.2f', sum(0, map { $c->{$_} } grep { !/by io_uring/ } keys %$c) } @drivers]);
    }
  }
}

sub share {
  my ($cost) = @_;
  my $all = sum(0, map { $cost->{$_} } grep { $_ ne 'frame' } keys %$cost);
  my $own = sum(0, map { $cost->{$_} // 0 } 'uvcurl', 'libuv', 'driver', 'loop library');
  return $all ? $own / $all : 0;
}

sub show_instructions {
  my $all = $results{instructions};
  my @drivers = grep { $all->{$_} } @ALL or return;
  line("**User instructions per transfer**, kept connections, 100 at once, $results{versions}{embedded}; what each calls of the C library is its own");
  line();
  my @owners = ('libcurl', 'uvcurl', 'libuv', 'driver', 'loop library', 'other libraries');
  table(['whose', map { $TITLE{$_} } @drivers],
    (map { my $o = $_; (grep { ($all->{$_}{$o} // 0) >= 1 } @drivers)
      ? [$o, map { sprintf '%.0f', $all->{$_}{$o} // 0 } @drivers] : () } @owners),
    ['driving, of the whole', map { sprintf '%.1f %%', 100 * share($all->{$_}) } @drivers]);
}

sub show_timer {
  my $all = $results{timer};
  my %titles = (rest => '100 at once, answers after 20 ms', full => '100 at once, full load',
    many => '2,000 at once, answers after 400 ms');
  my @rows;
  for my $name (grep { $all->{$_} } qw(rest full many)) {
    push @rows, [$titles{$name}, map { my $readings = $all->{$name}{$_} // [];
      join ' / ', map { my $i = $_; number(median(map { ($_->[$i] // 0) / 1000 } @$readings)) } 0 .. 2 } @LOOPS];
  }
  return unless @rows;
  line("**How late a 1 ms timer of the host's is**, ms: median / 99th percentile / latest; medians of the runs");
  line();
  table(['load', map { $TITLE{$_} } @LOOPS], @rows);
}

sub show_rest {
  my @rows;
  my @drivers = grep { $results{idle}{$_} || $results{close}{$_} } @ALL;
  push @rows, ['wake-ups in 10 s, idle, 1,000 pooled connections', map { $results{idle}{$_}{idle_wakeups} } @drivers]
    if %{ $results{idle} // {} };
  push @rows, ['ms to close with 10,000 in flight', map { number(median(@{ $results{close}{$_} // [] })) } @drivers]
    if %{ $results{close} // {} };
  if (@rows) {
    line('**At rest, and at the end**');
    line();
    table(['what', map { $TITLE{$_} } @drivers], @rows);
  }
  my %titles = (plain => 'kept connections, 100 at once per loop', tls => 'TLS, new connections, 20 at once per loop',
    h2 => 'HTTP/2, 1,000 at once per loop');
  @rows = ();
  for my $name (grep { $results{loops}{$_} } qw(plain tls h2)) {
    my ($one, $two) = @{ $results{loops}{$name} }{1, 2};
    my @ratios = map { $two->[$_] && $one->[$_] ? $two->[$_]{rate} / $one->[$_]{rate} : () } 0 .. $#$one;
    push @rows, [$titles{$name}, sprintf('%.2f (%.2f-%.2f)', median(@ratios), min(@ratios), max(@ratios)),
      sprintf('%.2f', median(map { $_->{cpu} } @$two) / median(map { $_->{cpu} } @$one))];
  }
  if (@rows) {
    line("**Two loops on two threads, a driver each**, divided by one loop; the server runs on the same $cores processors");
    line();
    table(['workload', 'transfers per second', 'CPU per transfer'], @rows);
  }
}

sub show_settings {
  my $all = $results{settings} // {};
  my @rows;
  for my $at (sort { $a <=> $b } grep { $_ <= $#SETTINGS } keys %$all) {
    my @ratios = map { $_->{with} / $_->{without} } @{ $all->{$at} };
    push @rows, [$SETTINGS[$at][0], number(median(map { $_->{without} } @{ $all->{$at} })) . ' us',
      sprintf('%.2f (%.2f-%.2f)', median(@ratios), min(@ratios), max(@ratios))];
  }
  return unless @rows;
  line("**What settings of libcurl's change**, CPU per transfer through uvcurl (the first through epoll, for uvcurl does it by itself), $results{versions}{embedded}; see [scaling](scaling.md)");
  line();
  table(['load: setting', 'without', 'with, divided by without'], @rows);
}

# What the project has set itself, and where it stands.
sub show_goals {
  my @rows;
  my $goal = sub {
    my ($what, $goal, $value, $ok) = @_;
    push @rows, [$what, $goal, $value, $ok ? 'yes' : 'no'] if defined $value;
  };
  my $calls = sub {
    my ($libs, $work, $driver) = @_;
    my $c = $results{syscalls}{$libs}{$work}{$driver} or return undef;
    return ($c->{epoll_ctl} // 0) + ($c->{'epoll_ctl by io_uring'} // 0);
  };
  my $shown = sub { return defined $_[0] ? sprintf('%.2f', $_[0]) : undef };
  for my $libs (qw(embedded host)) {
    my $keep = $calls->($libs, 'keep100', 'uvcurl');
    next unless defined $keep;
    my $c = $results{syscalls}{$libs}{keep100}{uvcurl};
    $goal->("epoll_ctl, kept connections, $libs", 'at most 0.1', $shown->($keep), $keep <= 0.1);
    my $other = sum(map { $c->{$_} // 0 } qw(ioctl rt_sigaction)) + max(0, ($c->{poll} // 0)
      - ($results{syscalls}{$libs}{keep100}{epoll}{poll} // 0));
    $goal->("ioctl, poll, rt_sigaction beyond libcurl's, $libs", 'none', $shown->($other), $other < 0.01);
  }
  my $fresh = $calls->('host', 'fresh', 'uvcurl');
  $goal->('epoll_ctl, new connections, libuv 1.44', 'at most 5.1', $shown->($fresh), $fresh <= 5.1) if defined $fresh;
  if (my $c = $results{syscalls}{embedded}{fresh}{uvcurl}) {
    my $h = $results{syscalls}{host}{fresh}{uvcurl} // {};
    my ($here, $there) = map { my $x = $_; sum(0, map { $x->{$_} // 0 } qw(epoll_ctl io_uring_enter ioctl)) } $c, $h;
    $goal->('epoll_ctl, io_uring_enter and ioctl, new connections, libuv 1.53', sprintf('below %.2f (libuv 1.44)', $there), $shown->($here),
      $here < $there) if %$h;
  }
  for my $g (['multi_uv', 0.80], ['epoll', 0.95], ['libevent', 0.95]) {
    my ($median, $low, $high) = ratio($results{ratios}{embedded}{keep200} // {}, $g->[0], 'cpu') or next;
    $goal->("CPU at 200 in flight, of $TITLE{$g->[0]}", "at most $g->[1]",
      sprintf('%.2f (%.2f-%.2f)', 1 / $median, 1 / $high, 1 / $low), 1 / $median <= $g->[1]);
  }
  if (my $cost = $results{instructions}{uvcurl}) {
    $goal->('instructions of uvcurl and libuv', 'at most 2 %', sprintf('%.1f %%', 100 * share($cost)), share($cost) <= 0.02);
  }
  for my $libs (qw(embedded host)) {
    my $readings = ($results{ratios}{$libs} // {})->{keep19000} or next;
    if (my ($median, $low, $high) = ratio($readings, 'epoll', 'cpu')) {
      $goal->("CPU at 19,000 in flight, of epoll, $libs", 'at most 1', sprintf('%.2f (%.2f-%.2f)', 1 / $median, 1 / $high, 1 / $low),
        1 / $median <= 1.005);
    }
    next if $libs eq 'host';
    my $kb = median(map { $_->{rss} } @{ $readings->{uvcurl} // [] });
    $goal->('memory per transfer at 19,000 in flight', 'at most 8 kB', number($kb) . ' kB', $kb <= 8) if defined $kb;
  }
  if (my ($median, $low, $high) = ratio($results{ratios}{embedded}{seq} // {}, 'epoll', 'rate')) {
    $goal->('time of one after another, of epoll', 'at most 1.03', sprintf('%.2f (%.2f-%.2f)', $median, $low, $high), $median <= 1.03);
  }
  if (my ($median, $low, $high) = ratio($results{ratios}{embedded}{seq1} // {}, 'epoll', 'rate')) {
    $goal->('the same beside the server on one processor', 'at most 1.03', sprintf('%.2f (%.2f-%.2f)', $median, $low, $high), $median <= 1.03);
  }
  for my $load (qw(rest full many)) {
    my $t = $results{timer}{$load} or next;
    for my $at ([0, 'median'], [1, '99th percentile'], [2, 'latest']) {
      my ($own, $epoll) = map { my $d = $_; median(map { $_->[$at->[0]] } @{ $t->{$d} // [] }) } qw(uvcurl epoll);
      next unless $own && $epoll;
      $goal->("1 ms timer, load '$load', $at->[1], of epoll", 'at most 1.1', sprintf('%.2f', $own / $epoll), $own / $epoll <= 1.1);
    }
  }
  if (my $idle = $results{idle}{uvcurl}) {
    $goal->('wake-ups in 10 s with 1,000 pooled connections', '0', $idle->{idle_wakeups}, $idle->{idle_wakeups} <= 0);
  }
  return unless @rows;
  line('**Goals**');
  line();
  table(['figure', 'goal', 'measured', 'reached'], @rows);
}

sub plot {
  my ($script) = @_;
  open my $gnuplot, '|-', 'gnuplot' or do { warn "gnuplot: $!\n"; return };
  print $gnuplot $script;
  close $gnuplot or warn "gnuplot failed\n";
}

my %COLOUR = (uvcurl => '#c0392b', multi_uv => '#2471a3', epoll => '#1e8449', libevent => '#b7950b', libev => '#7d3c98',
  multi_poll => '#616a6b', threads => '#000000');

sub plots {
  my @drivers = (@LOOPS, 'multi_poll');
  my @points = ([1, 'seq'], [10, 'keep10'], [100, 'keep100'], [200, 'keep200'], [1000, 'keep1000'], [2000, 'keep2000'],
    [10000, 'keep10000'], [19000, 'keep19000']);
  my $all = $results{ratios}{embedded} // {};
  my $data = '';
  my @shown;
  for my $driver (@drivers) {
    my @rows = map { my $r = $all->{ $_->[1] }{$driver};
      $r && @$r ? join(' ', $_->[0], median(map { $_->{cpu} } @$r), min(map { $_->{cpu} } @$r), max(map { $_->{cpu} } @$r)) : () } @points;
    next unless @rows > 1;
    push @shown, $driver;
    $data .= "\$$driver << EOD\n" . join("\n", @rows) . "\nEOD\n";
  }
  my $terminal = "set terminal svg size 760,420 font 'sans-serif,13' background '#ffffff'\n";
  plot($terminal . <<"END" . $data . 'plot ' . join(', ',
set output 'docs/performance-cost.svg'
set title 'CPU per transfer, kept connections ($results{versions}{embedded})'
set logscale x
set xrange [0.8:25000]
set yrange [0:*]
set xlabel 'transfers in flight'
set ylabel 'microseconds, user and system'
set grid ytics lc '#dddddd'
set border 3
set tics nomirror
set key top left
END
    map { "\$$_ using 1:2 with linespoints lw 2 pt 7 ps 0.5 lc '$COLOUR{$_}' title \"$TITLE{$_}\"" } @shown) . "\n") if @shown;

  my @groups = (['send, receive', qr/^(?:send|recv|read|write)/, '#7f8c8d'], ['epoll_ctl', qr/^epoll_ctl$/, '#c0392b'],
    ['io_uring_enter', qr/^io_uring_enter$/, '#e59866'], ['ioctl', qr/^ioctl$/, '#b7950b'],
    ['waiting', qr/^(?:epoll_p?wait|poll|futex)/, '#2471a3'],
    ['socket, connect, close ...', qr/^(?!(?:send|recv|read|write|epoll_|io_uring|ioctl|poll|futex))/, '#aeb6bf']);
  my $calls = $results{syscalls} or return;
  my @bars;
  for my $set (['embedded', 'keep100'], ['embedded', 'fresh'], ['host', 'keep100'], ['host', 'fresh']) {
    my $by = $calls->{ $set->[0] }{ $set->[1] } or next;
    for my $driver (grep { $by->{$_} } qw(uvcurl multi_uv epoll libevent)) {
      my $c = $by->{$driver};
      push @bars, join "\t", qq("$TITLE{$driver}"),
        map { my $re = $_->[1]; sum(0, map { $c->{$_} } grep { $_ =~ $re && !/by io_uring/ } keys %$c) } @groups;
    }
    push @bars, join "\t", '" "', (0) x @groups;
  }
  pop @bars;
  plot($terminal . "\$calls << EOD\n" . join("\n", @bars) . "\nEOD\n" . <<"END" . 'plot ' . join(', ',
set output 'docs/performance-syscalls.svg'
set title "System calls per transfer, 100 at once. From left: kept and new connections on $results{versions}{embedded},\\nkept and new connections on $results{versions}{host}"
set style data histograms
set style histogram rowstacked
set style fill solid
set boxwidth 0.75
set xtics rotate by -40 nomirror
set ytics nomirror
set yrange [0:*]
set border 3
set grid ytics lc '#dddddd'
set key outside right top
END
    map { "\$calls using " . ($_ + 2) . ($_ ? '' : ':xtic(1)') . " lc '$groups[$_][2]' title '$groups[$_][0]'" } 0 .. $#groups) . "\n")
    if @bars;
}

sub show {
  show_goals();
  show_ratios('embedded');
  show_ratios('host');
  show_memory();
  show_syscalls();
  show_instructions();
  show_timer();
  show_rest();
  show_settings();
}

sub write_page {
  my ($begin, $end) = ('<!-- measured: begin -->', '<!-- measured: end -->');
  open my $in, '<', $out or die "$out: $!\n";
  my $page = do { local $/; <$in> };
  close $in;
  my $text = join "\n", "Measured with `make bench` on $results{machine}. Embedded: $results{versions}{embedded}. System: $results{versions}{host}.",
    '', @lines;
  $page =~ s/\Q$begin\E.*?\Q$end\E/$begin\n$text\n$end/s or die "$out has no place for what was measured\n";
  open my $to, '>', $out or die "$out: $!\n";
  print $to $page;
  close $to or die "$out: $!\n";
}

make_path('build/bench');
if ($render) {
  %results = read_kept() or die "$kept: nothing has been measured yet\n";
} else {
  measure_all();
}
show();
print "$_\n" for @lines;
if ($quick) {
  printf "%.0f s\n", time - $begun;
} else {
  keep();
  plots();
  write_page();
  printf "%s and its plots written, %.0f s\n", $out, time - $begun;
}
