#!/usr/bin/env perl
# Builds the embedded library and lays it out in a directory that can be moved: lib/libuvcurl.a, include/uvcurl.h, the
# headers of the libuv and libcurl inside, lib/pkgconfig/uvcurl.pc.
#
#   embedded.pl [--node] DIR [cargo option ...]
#
# --node: for an addon of Node, whose libuv it is; lib/uvcurl-node/libuvcurl_node.a, and the headers of libcurl only.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Copy qw(copy);
use File::Find qw(find);
use File::Path qw(make_path remove_tree);
use JSON::PP;

my $node = @ARGV && $ARGV[0] eq '--node' && shift @ARGV;
my ($dir, @options) = @ARGV;
die "usage: embedded.pl [--node] DIR [cargo option ...]\n" unless defined $dir;
make_path("$dir.part");
my $kept = "$dir/lib/native-libs";

sub build {
  my $log = "$dir.part/cargo.log";
  my @command = ($ENV{CARGO} // 'cargo', qw(rustc --locked --release --lib --crate-type staticlib),
    '--message-format=json-render-diagnostics', @options, '--', '--print', 'native-static-libs');
  my $quoted = join ' ', map { "'$_'" } @command;
  open my $out, '-|', "$quoted 2>'$log'" or die "cargo: $!\n";
  my @messages = map { decode_json($_) } grep { /^\{/ } <$out>;
  my $ok = close $out;
  open my $in, '<', $log or die "$log: $!\n";
  my $text = do { local $/; <$in> };
  die $text unless $ok;
  my ($libs) = $text =~ /native-static-libs: (.*)/;
  return ($libs, @messages);
}

my ($libs, @messages) = build();
# An addon is linked with what Node has.
$libs //= '' if $node;
if (!defined $libs) {
  # rustc names the libraries only when it runs.
  if (open my $in, '<', $kept) {
    chomp($libs = <$in>);
  } else {
    utime undef, undef, 'src/lib.rs';
    ($libs, @messages) = build();
  }
}
die "rustc did not name the libraries to link\n" unless defined $libs;

my ($archive, $curl, $uv);
for my $message (@messages) {
  my $id = $message->{package_id} // '';
  if ($message->{reason} eq 'compiler-artifact') {
    $archive //= (grep { /libuvcurl\.a$/ } @{ $message->{filenames} })[0]
      if $message->{target}{name} eq 'uvcurl';
    $uv = dirname($message->{manifest_path}) . '/libuv/include' if $id =~ /libuv-sys2[@#]/;
  } elsif ($message->{reason} eq 'build-script-executed') {
    $curl = "$message->{out_dir}/include" if $id =~ /curl-sys[@#]/ && -d "$message->{out_dir}/include/curl";
  }
}
die "cargo did not name libuvcurl.a\n" unless $archive;
die "no headers of the embedded libcurl\n" unless $curl && -d $curl;
die "no headers of the embedded libuv\n" unless $node || ($uv && -d $uv);

sub copy_tree {
  my ($from, $to) = @_;
  find({ no_chdir => 1, wanted => sub {
    return unless /\.h$/;
    my $target = $to . substr($_, length $from);
    make_path(dirname($target));
    copy($_, $target) or die "$target: $!\n";
  } }, $from);
}

my $part = "$dir.part";
if ($node) {
  make_path("$part/lib/uvcurl-node");
  copy($archive, "$part/lib/uvcurl-node/libuvcurl_node.a") or die "$archive: $!\n";
  copy_tree($curl, "$part/include/uvcurl-node");
  keep();
  exit 0;
}
make_path("$part/lib/pkgconfig", "$part/include/uvcurl-embedded");
copy($archive, "$part/lib/libuvcurl.a") or die "$archive: $!\n";
copy('include/uvcurl.h', "$part/include/uvcurl.h") or die "uvcurl.h: $!\n";
# In a directory of their own, so that they never hide those of a system's libuv and libcurl from other programs.
copy_tree($uv, "$part/include/uvcurl-embedded");
copy_tree($curl, "$part/include/uvcurl-embedded");

open my $toml, '<', 'Cargo.toml' or die "Cargo.toml: $!\n";
my ($version) = map { /^version = "(.*)"/ ? $1 : () } <$toml>;
my %seen;
my $private = join ' ', grep { !$seen{$_}++ } split ' ', $libs;
open my $pc, '>', "$part/lib/pkgconfig/uvcurl.pc" or die "uvcurl.pc: $!\n";
print $pc <<"END";
prefix=\${pcfiledir}/../..
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: uvcurl
Description: libcurl transfers on a libuv loop the program already has (libuv and libcurl inside)
Version: $version
Cflags: -I\${includedir} -isystem \${includedir}/uvcurl-embedded
Libs: -L\${libdir} -luvcurl
Libs.private: $private
END
close $pc or die "uvcurl.pc: $!\n";
keep();

# The names of the libraries, for the next time, and the finished directory in its place.
sub keep {
  open my $keep, '>', "$part/lib/native-libs" or die "native-libs: $!\n";
  print $keep "$libs\n";
  close $keep or die "native-libs: $!\n";
  unlink "$part/cargo.log";
  remove_tree($dir);
  rename $part, $dir or die "$dir: $!\n";
}
