#!/usr/bin/env perl
# mail.pl DIR: an IMAP, a POP3 and an SMTP server on loopback, a process for each connection. Says their ports. What SMTP
# takes goes to DIR/mail.NAME, NAME being the first recipient's. The only user is `user` with the password `secret`.
# An FTP server that answers EPSV before it is asked is here as well.
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

my ($dir) = @ARGV;
$SIG{CHLD} = 'IGNORE';
my %serve = (IMAP => \&imap, POP3 => \&pop3, SMTP => \&smtp, EAGER_FTP => \&eager_ftp);
my %name;
my $select = IO::Select->new;
$| = 1;
for my $protocol (sort keys %serve) {
  my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64) or die "no port: $!\n";
  $name{$socket} = $protocol;
  $select->add($socket);
  printf "UVCURL_TEST_%s=%d\n", $protocol, $socket->sockport;
}
print "UVCURL_TEST_MAIL=ready\n";

my @mails = ("Subject: one\r\n\r\nthe first\r\n", "Subject: two\r\n\r\n" . "a line of the second\r\n" x 4000);

while (1) {
  for my $listener ($select->can_read) {
    my $client = $listener->accept or next;
    my $pid = fork;
    if (defined $pid && $pid == 0) {
      alarm 60;
      $client->autoflush(1);
      $serve{$name{$listener}}->($client);
      exit;
    }
    close $client;
  }
}

sub line {
  my $line = readline $_[0];
  exit if !defined $line;
  $line =~ s/\r?\n$//;
  return $line;
}

sub imap {
  my ($c) = @_;
  print $c "* OK ready\r\n";
  while (1) {
    my ($tag, $command, $rest) = split / /, line($c), 3;
    $command = uc($command // '');
    $rest //= '';
    my $ok = "$tag OK done\r\n";
    if ($command eq 'CAPABILITY') {
      print $c "* CAPABILITY IMAP4rev1\r\n$ok";
    } elsif ($command eq 'LOGIN') {
      print $c $rest =~ /^"?user"? "?secret"?$/ ? $ok : "$tag NO no\r\n";
    } elsif ($command eq 'SELECT') {
      print $c "* 2 EXISTS\r\n* OK [UIDVALIDITY 7]\r\n$ok";
    } elsif ($command eq 'LIST') {
      print $c "* LIST () \"/\" INBOX\r\n* LIST () \"/\" Sent\r\n$ok";
    } elsif ($command eq 'FETCH') {
      my ($number) = $rest =~ /^(\d+)/;
      my $mail = $mails[$number - 1];
      print $c defined $mail ? "* $number FETCH (BODY[] {" . length($mail) . "}\r\n$mail)\r\n$ok" : "$tag NO no such mail\r\n";
    } elsif ($command eq 'APPEND') {
      my ($size) = $rest =~ /\{(\d+)\}$/;
      print $c "+ go on\r\n";
      my $mail;
      read $c, $mail, $size + 2;
      open my $file, '>:raw', "$dir/mail.append" or die;
      print $file substr($mail, 0, $size);
      close $file;
      print $c $ok;
    } elsif ($command eq 'SILENCE') {
      sleep 30;
    } elsif ($command eq 'LOGOUT') {
      print $c "* BYE\r\n$ok";
      return;
    } else {
      print $c "$tag BAD what\r\n";
    }
  }
}

sub pop3 {
  my ($c) = @_;
  print $c "+OK ready\r\n";
  my $user = '';
  while (1) {
    my ($command, $rest) = split / /, line($c), 2;
    $command = uc($command // '');
    if ($command eq 'CAPA') {
      print $c "+OK\r\nUSER\r\n.\r\n";
    } elsif ($command eq 'USER') {
      $user = $rest;
      print $c "+OK\r\n";
    } elsif ($command eq 'PASS') {
      print $c $user eq 'user' && $rest eq 'secret' ? "+OK\r\n" : "-ERR no\r\n";
    } elsif ($command eq 'LIST') {
      print $c "+OK\r\n" . join('', map { "$_ " . length($mails[$_ - 1]) . "\r\n" } 1 .. @mails) . ".\r\n";
    } elsif ($command eq 'RETR') {
      print $c $mails[$rest - 1] ? "+OK\r\n$mails[$rest - 1].\r\n" : "-ERR none\r\n";
    } elsif ($command eq 'QUIT') {
      print $c "+OK\r\n";
      return;
    } else {
      print $c "-ERR what\r\n";
    }
  }
}

sub smtp {
  my ($c) = @_;
  print $c "220 ready\r\n";
  my @to;
  while (1) {
    my $line = line($c);
    if ($line =~ /^EHLO/i) {
      print $c "250-here\r\n250 SIZE 1000000\r\n";
    } elsif ($line =~ /^(HELO|MAIL|RSET|NOOP)/i) {
      print $c "250 OK\r\n";
    } elsif ($line =~ /^RCPT TO:<nobody@/i) {
      print $c "550 no such user\r\n";
    } elsif ($line =~ /^RCPT TO:<([a-z0-9.]+)@/i) {
      push @to, $1;
      print $c "250 OK\r\n";
    } elsif ($line =~ /^DATA/i) {
      print $c "354 go on\r\n";
      open my $file, '>:raw', "$dir/mail.$to[0]" or die;
      while ((my $data = readline $c) ne ".\r\n") {
        $data =~ s/^\.//;
        print $file $data;
      }
      close $file;
      @to = ();
      print $c "250 OK\r\n";
    } elsif ($line =~ /^QUIT/i) {
      print $c "221 bye\r\n";
      return;
    } else {
      print $c "500 what\r\n";
    }
  }
}

# After a refusal the answer to the next EPSV follows at once, so that a client finds it there as soon as it has asked. (A
# quick server and a slow client do so by chance.)
sub eager_ftp {
  my ($c) = @_;
  my ($data, $asked);
  my $passive = sub {
    $data = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die;
    return '229 Entering Extended Passive Mode (|||' . $data->sockport . "|)\r\n";
  };
  print $c "220 ready\r\n";
  while (1) {
    my ($command, $rest) = split / /, line($c), 2;
    $command = uc($command // '');
    if ($command eq 'USER') {
      print $c "331 and?\r\n";
    } elsif ($command eq 'PASS') {
      print $c "230 in\r\n";
    } elsif ($command eq 'PWD') {
      print $c "257 \"/\"\r\n";
    } elsif ($command eq 'EPSV') {
      print $c $passive->() if !$asked;
      $asked = 0;
    } elsif ($command eq 'TYPE') {
      print $c "200 OK\r\n";
    } elsif ($command eq 'SIZE' && $rest eq 'none') {
      $asked = 1;
      print $c "550 none\r\n" . $passive->();
    } elsif ($command eq 'SIZE') {
      print $c "213 1000\r\n";
    } elsif ($command eq 'RETR') {
      print $c "150 here\r\n";
      my $stream = $data->accept or die;
      print $stream 'x' x 1000;
      close $stream;
      print $c "226 done\r\n";
    } elsif ($command eq 'QUIT') {
      print $c "221 bye\r\n";
      return;
    } else {
      print $c "500 what\r\n";
    }
  }
}
