#!/usr/bin/env perl
# One cell of the matrix: the embedded library over another libcurl and another libuv than Cargo.lock's.
#
#   matrix.pl library CELL     builds it into build/matrix/CELL/embedded
#   matrix.pl run [--jobs N] [--result FILE] [--table] CELL ...
#                              runs the C suite in each and prints a row per cell; --table: also into docs/compatibility.md
#   matrix.pl lock CELL ...    adds to tools/matrix.lock what these cells have been built from
#
# A cell is named like curl-8.10.0+uv-1.44.2. For a CELL may stand `axes` (every libcurl on the newest libuv, every libuv
# on the newest libcurl, oldest on oldest), `corners` (two, for every test run) or `all` (every pair). tools/matrix.lock
# pins what older releases of the crates depend on.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use Getopt::Long;

# libcurl's version, and the release of curl-sys that carries it. 0.4.57 is yanked: cargo takes it because
# tools/matrix.lock names it.
my @curl = (
  ['7.85.0', '0.4.57+curl-7.85.0'], ['7.88.1', '0.4.60+curl-7.88.1'], ['8.4.0', '0.4.68+curl-8.4.0'],
  ['8.9.0', '0.4.74+curl-8.9.0'], ['8.10.0', '0.4.75+curl-8.10.0'], ['8.12.0', '0.4.79+curl-8.12.0'],
  ['8.17.0', '0.4.84+curl-8.17.0'], ['8.20.0', '0.4.89+curl-8.20.0'], ['8.21.0', '0.4.90+curl-8.21.0'],
  ['8.22.0', '0.4.91+curl-8.22.0'],
);
my @uv = (
  ['1.44.2', '1.44.2'], ['1.46.0', '1.46.0'], ['1.48.0', '1.48.0'], ['1.51.0', '1.51.0'], ['1.53.0', '1.53.1'],
);
my ($newest_curl, $newest_uv) = ($curl[-1][0], $uv[-1][0]);

$| = 1;
my $root = abs_path(dirname($0) . '/..');
chdir $root or die "$root: $!\n";
my ($command, @arguments) = @ARGV;
$command //= '';

sub cell { "curl-$_[0]+uv-$_[1]" }

sub parts {
  my ($name) = @_;
  my ($c, $u) = $name =~ /^curl-([\d.]+)\+uv-([\d.]+)$/ or die "$name is not the name of a cell\n";
  my ($curl) = map { $_->[1] } grep { $_->[0] eq $c } @curl;
  my ($uv) = map { $_->[1] } grep { $_->[0] eq $u } @uv;
  die "no release is known for $name\n" unless $curl && $uv;
  return ($curl, $uv);
}

sub slurp {
  my ($path) = @_;
  open my $in, '<', $path or die "$path: $!\n";
  local $/;
  return scalar <$in>;
}

# Written only if it is new, so that cargo does not build again for nothing.
sub spill {
  my ($path, $text) = @_;
  return if -e $path && slurp($path) eq $text;
  open my $out, '>', $path or die "$path: $!\n";
  print $out $text;
  close $out or die "$path: $!\n";
}

sub run {
  system(@_) == 0 or die "failed: @_\n";
}

sub library {
  my ($name) = @_;
  my ($curl, $uv) = parts($name);
  my $dir = "$root/build/matrix/$name";
  make_path("$dir/crate");
  my $toml = slurp('Cargo.toml');
  $toml =~ s/^libuv-sys2 = .*$/libuv-sys2 = "=$uv"/m or die "Cargo.toml does not name libuv-sys2\n";
  $toml =~ s/^curl-sys = .*$/curl-sys = { version = "=$curl", default-features = false }/m
    or die "Cargo.toml does not name curl-sys\n";
  # Other TLS libraries and what only the tests need would have to be pinned for each release too.
  $toml =~ s/^(?:rustls|vendored-openssl) = .*\n//mg;
  $toml =~ s/^\[dev-dependencies\]\n(?:[^\[].*\n|\n)*//m;
  spill("$dir/crate/Cargo.toml", $toml);
  for my $part (qw(src build.rs include README.md)) {
    -l "$dir/crate/$part" or symlink "$root/$part", "$dir/crate/$part" or die "$part: $!\n";
  }
  # Of the lock file cargo keeps what it can use.
  my $lock = "$dir/crate/Cargo.lock";
  if (!-e $lock || -M $lock > -M 'tools/matrix.lock') {
    spill("$lock.new", slurp('tools/matrix.lock'));
    rename "$lock.new", $lock or die "$lock: $!\n";
  }
  chdir "$dir/crate" or die "$dir: $!\n";
  run('cargo metadata --format-version 1 >cargo-metadata.json');
  my $target = $ENV{CARGO_TARGET_DIR} // "$root/target";
  run('perl', "$root/tools/embedded.pl", "$dir/embedded", '--target-dir', $target);
  chdir $root;
}


my $default = cell($newest_curl, $newest_uv);
my %sets = (
  axes => [
    (map { cell($_->[0], $newest_uv) } @curl),
    (map { cell($newest_curl, $_->[0]) } grep { $_->[0] ne $newest_uv } @uv),
    cell($curl[0][0], $uv[0][0]),
  ],
  all => [map { my $c = $_->[0]; map { cell($c, $_->[0]) } @uv } @curl],
  # The oldest libuv, whose phases come in another order, with the libcurl that forgets its timer; and the oldest libcurl.
  corners => [cell('8.10.0', $uv[0][0]), cell($curl[0][0], $newest_uv)],
);

# Runs the suite in a cell: passed, failed, skipped.
sub suite {
  my ($name, $jobs) = @_;
  my @make = ($ENV{MAKE} // 'make', '--no-print-directory', "CELL=$name");
  my $dir = "build/matrix/$name";
  make_path($dir);
  parts($name);
  if (system("@make matrix-programs >$dir/build.log 2>&1") != 0) {
    print slurp("$dir/build.log");
    return (0, 1, 0);
  }
  my @programs = map { "$dir/c-tests/$_" } map { m{([^/]+)\.(?:c|cpp)$} } sort glob 'c-tests/*.c c-tests/*.cpp';
  @programs = grep { -x } @programs;
  my $count = "$dir/suite.count";
  unlink $count;
  my @suite = ('sh', 'tools/with-servers.sh', 'perl', 'tools/c-suite.pl', '--jobs', $jobs, '--result', $count, @programs);
  my $failed = system("@suite >$dir/suite.log 2>&1") != 0;
  if ($failed) {
    print slurp("$dir/suite.log");
    return (0, 1, 0) unless -e $count;
  } else {
    print grep { /^skipped: / } split /^/, slurp("$dir/suite.log");
  }
  return split ' ', slurp($count);
}

# The rows between the marks of docs/compatibility.md; those of cells that have not been run now stay.
sub table {
  my (%rows) = @_;
  my $file = 'docs/compatibility.md';
  my $text = slurp($file);
  my ($head, $old, $tail) = $text =~ /\A(.*<!-- matrix -->\n)(.*)(<!-- end of matrix -->.*)\z/s
    or die "$file has no place for the table\n";
  while ($old =~ /^\| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) \|$/mg) {
    $rows{ cell($1, $2) } //= [$3, $4, $5];
  }
  my $new = "\n| libcurl | libuv | passed | failed | skipped |\n|---|---|---|---|---|\n";
  for my $name (@{ $sets{all} }) {
    my $row = $rows{$name} or next;
    my ($c, $u) = $name =~ /^curl-(.*)\+uv-(.*)$/;
    $new .= '| ' . join(' | ', $c, $u, @$row) . " |\n";
  }
  spill($file, "$head$new\n$tail");
}

# Packages of all the cells' lock files in one: cargo prefers a version that it finds there to a newer one.
sub lock_cells {
  my %packages;
  for my $file ('tools/matrix.lock', map { "build/matrix/$_/crate/Cargo.lock" } @_) {
    for my $package (slurp($file) =~ /^(\[\[package\]\]\n(?:(?!\[\[).+\n)+)/mg) {
      my ($id) = $package =~ /^(name = .*\nversion = .*)$/m;
      $packages{$id} //= $package;
    }
  }
  delete @packages{ grep { /"uvcurl"/ } keys %packages };
  spill('tools/matrix.lock', join "\n", "# Written by matrix.pl lock.\nversion = 4\n", map { $packages{$_} } sort keys %packages);
}

if ($command eq 'library') {
  library($_) for @arguments;
} elsif ($command eq 'run') {
  my ($jobs, $result, $table) = (2);
  Getopt::Long::GetOptionsFromArray(\@arguments, 'jobs=i' => \$jobs, 'result=s' => \$result, 'table' => \$table)
    or die "see the head of this file\n";
  my %seen;
  my @cells = grep { !$seen{$_}++ } map { @{ $sets{$_} // [$_] } } @arguments;
  die "which cells?\n" unless @cells;
  parts($_) for @cells;
  my ($passed, $failed, $skipped, %rows) = (0, 0, 0);
  for my $name (@cells) {
    my $start = time;
    my @row = suite($name, $jobs);
    printf "%-28s %4d passed, %d failed, %d skipped  (%d s)\n", $name, @row, time - $start;
    $passed += $row[0];
    $failed += $row[1];
    $skipped += $row[2];
    $rows{$name} = \@row;
    table(%rows) if $table;
  }
  print "$passed passed, $failed failed, $skipped skipped\n";
  spill($result, "$passed $failed $skipped\n") if defined $result;
  exit($failed ? 1 : 0);
} elsif ($command eq 'lock') {
  lock_cells(@arguments);
} else {
  die "see the head of this file\n";
}
