package sim

// demoSector is the boot sector of the demo disk: a host that is up within a
// second and obeys its buttons. It is 16-bit code at 0000:7c00 and works on
// QEMU's pc and q35 with SeaBIOS, which puts the ACPI registers of both at
// 0x600 (PM1_STS 0x600, PM1_EN 0x602, PM1_CNT 0x604; ACPI 6.5 section 4.8.3).
//
// It says on COM1 that it is up, echoes what is typed, shuts down at the ACPI
// power button, shows an NMI, and knows the words reboot, poweroff, sleep and
// hang (which makes it deaf to the power button).
func demoSector() []byte {
	code := []byte{
		0xfa,       // 7c00 cli
		0xfc,       // 7c01 cld
		0x31, 0xc0, // 7c02 xor ax,ax
		0x8e, 0xd8, // 7c04 mov ds,ax
		0x8e, 0xc0, // 7c06 mov es,ax
		0x8e, 0xd0, // 7c08 mov ss,ax
		0xbc, 0x00, 0x7c, // 7c0a mov sp,0x7c00
		// Vectors: 2 is NMI, 0x0c is IRQ 4 (COM1), 0x71 is IRQ 9 (the SCI).
		0xb8, 0xe8, 0x7c, // 7c0d mov ax,nmi
		0xa3, 0x08, 0x00, // 7c10 mov ds:0x8,ax
		0xb8, 0xd7, 0x7c, // 7c13 mov ax,irq
		0xa3, 0x30, 0x00, // 7c16 mov ds:0x30,ax
		0xa3, 0xc4, 0x01, // 7c19 mov ds:0x1c4,ax
		0x31, 0xc0, // 7c1c xor ax,ax
		0xa3, 0x0a, 0x00, // 7c1e mov ds:0xa,ax
		0xa3, 0x32, 0x00, // 7c21 mov ds:0x32,ax
		0xa3, 0xc6, 0x01, // 7c24 mov ds:0x1c6,ax
		// The PICs let only IRQ 4, the cascade and IRQ 9 through.
		0xb0, 0xeb, // 7c27 mov al,0xeb
		0xe6, 0x21, // 7c29 out 0x21,al
		0xb0, 0xfd, // 7c2b mov al,0xfd
		0xe6, 0xa1, // 7c2d out 0xa1,al
		// COM1: FIFOs on, 8N1, DTR, RTS and OUT2, an interrupt on received data.
		0xba, 0xfa, 0x03, // 7c2f mov dx,0x3fa
		0xb0, 0x07, // 7c32 mov al,0x7
		0xee,       // 7c34 out dx,al
		0x42,       // 7c35 inc dx
		0xb0, 0x03, // 7c36 mov al,0x3
		0xee,       // 7c38 out dx,al
		0x42,       // 7c39 inc dx
		0xb0, 0x0b, // 7c3a mov al,0xb
		0xee,             // 7c3c out dx,al
		0xba, 0xf9, 0x03, // 7c3d mov dx,0x3f9
		0xb0, 0x01, // 7c40 mov al,0x1
		0xee, // 7c42 out dx,al
		// ACPI: clear PWRBTN_STS (bit 8), set PWRBTN_EN.
		0xba, 0x00, 0x06, // 7c43 mov dx,0x600
		0xb8, 0x00, 0x01, // 7c46 mov ax,0x100
		0xef,             // 7c49 out dx,ax
		0x42,             // 7c4a inc dx
		0x42,             // 7c4b inc dx
		0xef,             // 7c4c out dx,ax
		0xbe, 0x0b, 0x7d, // 7c4d mov si,up
		0xe8, 0x9e, 0x00, // 7c50 call print

		// prompt:
		0xbe, 0x27, 0x7d, // 7c53 mov si,ps
		0xe8, 0x98, 0x00, // 7c56 call print
		0xbf, 0x00, 0x7e, // 7c59 mov di,line

		// loop:
		// Runs with IF=0; only sti and hlt wait, which leaves no window for a lost wake.
		// The loop runs with IF=0; only sti+hlt waits, without a window for a lost wake.
		0xba, 0x00, 0x06, // 7c5c mov dx,0x600
		0xed,             // 7c5f in ax,dx
		0xf6, 0xc4, 0x01, // 7c60 test ah,0x1
		0x75, 0x4a, // 7c63 jne button
		0xba, 0xfd, 0x03, // 7c65 mov dx,0x3fd
		0xec,       // 7c68 in al,dx
		0xa8, 0x01, // 7c69 test al,0x1
		0x75, 0x04, // 7c6b jne typed
		0xfb,       // 7c6d sti
		0xf4,       // 7c6e hlt
		0xeb, 0xeb, // 7c6f jmp loop

		// typed:
		// Echo, and keep up to 16 characters of the line.
		// Echo, and keep up to 16 characters of the line.
		0xb2, 0xf8, // 7c71 mov dl,0xf8
		0xec,       // 7c73 in al,dx
		0x3c, 0x0d, // 7c74 cmp al,0xd
		0x74, 0x10, // 7c76 je enter
		0x3c, 0x20, // 7c78 cmp al,0x20
		0x72, 0xe0, // 7c7a jb loop
		0x81, 0xff, 0x10, 0x7e, // 7c7c cmp di,line+16
		0x74, 0x01, // 7c80 je 0x7c83
		0xaa,             // 7c82 stos BYTE PTR es:[di],al
		0xe8, 0x75, 0x00, // 7c83 call putc
		0xeb, 0xd4, // 7c86 jmp loop

		// enter:
		// Compare the line with each word of the table.
		// Compare the line with each word of the table.
		0xc6, 0x05, 0x00, // 7c88 mov BYTE PTR [di],0x0
		0xbe, 0x2a, 0x7d, // 7c8b mov si,crlf
		0xe8, 0x60, 0x00, // 7c8e call print
		0xbb, 0x47, 0x7d, // 7c91 mov bx,table

		// next:
		0x8b, 0x37, // 7c94 mov si,WORD PTR [bx]
		0x85, 0xf6, // 7c96 test si,si
		0x74, 0xb9, // 7c98 je prompt
		0xbf, 0x00, 0x7e, // 7c9a mov di,line
		0xac,       // 7c9d lods al,BYTE PTR ds:[si]
		0xae,       // 7c9e scas al,BYTE PTR es:[di]
		0x75, 0x09, // 7c9f jne 0x7caa
		0x84, 0xc0, // 7ca1 test al,al
		0x75, 0xf8, // 7ca3 jne 0x7c9d
		0xff, 0x57, 0x02, // 7ca5 call WORD PTR [bx+0x2]
		0xeb, 0xa9, // 7ca8 jmp prompt
		0x83, 0xc3, 0x04, // 7caa add bx,0x4
		0xeb, 0xe5, // 7cad jmp next

		// button:
		// PWRBTN_STS is cleared by writing 1 to it.
		// PWRBTN_STS is cleared by writing 1 to it.
		0xba, 0x00, 0x06, // 7caf mov dx,0x600
		0xb8, 0x00, 0x01, // 7cb2 mov ax,0x100
		0xef,             // 7cb5 out dx,ax
		0xe8, 0x02, 0x00, // 7cb6 call poweroff
		0xeb, 0x98, // 7cb9 jmp prompt

		// poweroff:
		// SLP_EN with SLP_TYP 0, which is S5 in QEMU.
		// SLP_EN with SLP_TYP 0, which is S5 in QEMU.
		0xbe, 0x2d, 0x7d, // 7cbb mov si,down
		0xe8, 0x30, 0x00, // 7cbe call print
		0xb8, 0x00, 0x20, // 7cc1 mov ax,0x2000
		0xeb, 0x03, // 7cc4 jmp slp

		// sleep:
		// SLP_EN with SLP_TYP 1, which is S3 in QEMU.
		// SLP_EN with SLP_TYP 1, which is S3 in QEMU.
		0xb8, 0x00, 0x24, // 7cc6 mov ax,0x2400

		// slp:
		0xba, 0x04, 0x06, // 7cc9 mov dx,0x604
		0xef, // 7ccc out dx,ax
		0xc3, // 7ccd ret

		// reboot:
		// The reset control register: full reset.
		// The reset control register, full reset.
		0xba, 0xf9, 0x0c, // 7cce mov dx,0xcf9
		0xb0, 0x06, // 7cd1 mov al,0x6
		0xee, // 7cd3 out dx,al

		// hang:
		0xf4,       // 7cd4 hlt
		0xeb, 0xfd, // 7cd5 jmp hang

		// irq:
		// Returns with IF=0 (bit 9 of the saved flags): the level-triggered SCI must not
		// come again before the loop has cleared its cause.
		// Returns with IF=0 (bit 9 of the saved flags), so that the level-triggered SCI
		// cannot come again before the loop has cleared its cause.
		0x50,       // 7cd7 push ax
		0x55,       // 7cd8 push bp
		0x89, 0xe5, // 7cd9 mov bp,sp
		0x80, 0x66, 0x09, 0xfd, // 7cdb and BYTE PTR [bp+0x9],0xfd
		0xb0, 0x20, // 7cdf mov al,0x20
		0xe6, 0xa0, // 7ce1 out 0xa0,al
		0xe6, 0x20, // 7ce3 out 0x20,al
		0x5d, // 7ce5 pop bp
		0x58, // 7ce6 pop ax
		0xcf, // 7ce7 iret

		// nmi:
		0x60,             // 7ce8 pusha
		0xbe, 0x3f, 0x7d, // 7ce9 mov si,nmis
		0xe8, 0x02, 0x00, // 7cec call print
		0x61, // 7cef popa
		0xcf, // 7cf0 iret

		// print:
		0xac,       // 7cf1 lods al,BYTE PTR ds:[si]
		0x84, 0xc0, // 7cf2 test al,al
		0x74, 0x14, // 7cf4 je 0x7d0a
		0xe8, 0x02, 0x00, // 7cf6 call putc
		0xeb, 0xf6, // 7cf9 jmp print

		// putc:
		0x88, 0xc4, // 7cfb mov ah,al
		0xba, 0xfd, 0x03, // 7cfd mov dx,0x3fd
		0xec,       // 7d00 in al,dx
		0xa8, 0x20, // 7d01 test al,0x20
		0x74, 0xfb, // 7d03 je 0x7d00
		0x88, 0xe0, // 7d05 mov al,ah
		0xb2, 0xf8, // 7d07 mov dl,0xf8
		0xee, // 7d09 out dx,al
		0xc3, // 7d0a ret
	}
	code = append(code, ""+
		"\r\nnitrino demo host is up\r\n\x00"+ // 7d0b up
		"> \x00"+ // 7d27 ps
		"\r\n\x00"+ // 7d2a crlf
		"\r\nshutting down\r\n\x00"+ // 7d2d down
		"\r\nNMI\r\n\x00"...) // 7d3f nmis
	// table: the address of a word and of its routine, four times, and the end.
	code = append(code,
		0x59, 0x7d, 0xce, 0x7c,
		0x60, 0x7d, 0xbb, 0x7c,
		0x69, 0x7d, 0xc6, 0x7c,
		0x6f, 0x7d, 0xd4, 0x7c,
		0x00, 0x00)
	code = append(code, "reboot\x00poweroff\x00sleep\x00hang\x00"...) // 7d59
	sector := make([]byte, 512)
	copy(sector, code)
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}
